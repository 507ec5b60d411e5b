"""Fig. 7: what a classifier makes of a photo while a patch is moved over it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from deconvnet.experiments.inches import axes_at, write_at
from deconvnet.experiments.occluders import Occluder
from deconvnet.images import Photos
from deconvnet.mining import Hit
from deconvnet.names import printable
from deconvnet.projection import grey_scale, to_pixels

# The figure, in inches: a column, between columns, a row, above all, and what stands to the left.
_SIDE, _GAP, _ROW, _ABOVE, _LEFT = 2.5, 0.55, 3.25, 1.05, 0.35
#: Classes that the legend of a map names; the others share one colour.
_NAMED = 9
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#f2c14e", "#7a5195", "#6fc2e8", "#8c6d31", "#f29cab", "#bbbbbb")


@dataclass(frozen=True)
class Occluded:
    """One photo."""

    path: str
    view: np.ndarray
    """(crop, crop, 3) uint8, what the network is shown."""
    covered: np.ndarray
    """The same with the occluder where it hurts most: where the class is least probable, or else the unit least active."""
    unit: int
    """Of the last convolutional layer, the one with the strongest activation in the photo."""
    activation: np.ndarray
    """(rows, columns) the sum of that unit's activations with the occluder at each position."""
    whole_activation: float
    """The same without an occluder."""
    projection: Tensor
    """(3, h, w) of the unit's strongest activation in the photo, cut to the receptive field."""
    others: list[tuple[Hit, Tensor]]
    """Up to three other photos that drive the unit most, with their projections."""
    target: str
    """The class that is followed; empty for a trunk."""
    target_by: Literal["label", "folder", "prediction", ""]
    """Who says so."""
    probability: np.ndarray | None
    """(rows, columns) of that class, 0 to 1; None for a trunk."""
    whole_probability: float | None
    best: np.ndarray | None
    """(rows, columns) the number of the most probable class."""
    names: dict[int, str]
    """Of the classes in `best`."""

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "unit": self.unit,
            "activation": self.activation.tolist(),
            "whole_activation": self.whole_activation,
            "others": [
                {"path": hit.path, "value": hit.value, "row": hit.row, "column": hit.column, "box": list(hit.box)}
                for hit, _ in self.others
            ],
            "class": self.target or None,
            "class_by": self.target_by or None,
            "probability": None if self.probability is None else self.probability.tolist(),
            "whole_probability": self.whole_probability,
            "most_probable": None if self.best is None else self.best.tolist(),
            "names": {str(number): name for number, name in self.names.items()},
        }


@dataclass(frozen=True)
class Occlusion:
    """Some photos under one occluder."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """The last convolutional one."""
    occluder: Occluder
    starts: range
    """Upper edges of the positions' rows, and left edges of their columns, in pixels of the view."""
    photos: Photos
    rows: list[Occluded]
    among: int
    """Photos among which the others were sought."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        occluder = self.occluder
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "occluder": {
                "size": occluder.size,
                "stride": occluder.stride,
                "shape": occluder.shape,
                "colour": "mean" if occluder.colour is None else list(occluder.colour),
            },
            "starts": list(self.starts),
            "images": {"digest": self.photos.digest, "paths": list(self.photos.paths)},
            "others_among": self.among,
            "photos": [row.as_json() for row in self.rows],
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """Of each photo, what the occluder does where it hurts most."""
        found = []
        for row in self.rows:
            sentence = f"{printable(row.path)}: no unit of {self.layer} is active in it"
            if row.whole_activation:
                lowest = float(row.activation.min()) / row.whole_activation
                sentence = (
                    f"{printable(row.path)}: {self.layer}'s unit {row.unit} keeps {lowest:.0%} of its activation at worst"
                )
            if row.probability is not None and row.best is not None:
                most = _most_frequent(row.best)
                sentence += (
                    f", and the probability of {row.target}, {row.whole_probability:.1%} without the occluder, is "
                    f"{row.probability.min():.1%} at its lowest; {row.names[most]} is most probable at "
                    f"{float((row.best == most).mean()):.0%} of the positions"
                )
            found.append(f"{sentence}.")
        return found

    def figures(self) -> dict[str, Figure]:
        return {"occlusion": self.figure()}

    def figure(self) -> Figure:
        """A row for each photo; the paper's five columns."""
        width, height = _LEFT + 5 * (_SIDE + _GAP) + 1.0, _ABOVE + _ROW * len(self.rows) + 0.3
        figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
        write_at(figure, _LEFT, 0.35, self.network, fontsize=13, fontweight="bold")
        titles = (
            "(a) the occluder where it hurts most",
            f"(b) {self.layer}, strongest unit: total activation",
            "(c) its projections; framed: this photo's",
            "(d) probability of the class",
            "(e) most probable class",
        )
        for column, title in enumerate(titles):
            write_at(figure, _LEFT + column * (_SIDE + _GAP), 0.75, title, fontsize=8.5)
        for number, row in enumerate(self.rows):
            top = _ABOVE + _ROW * number
            axes = [axes_at(figure, _LEFT + column * (_SIDE + _GAP), top, _SIDE, _SIDE) for column in range(5)]
            axes[0].imshow(row.covered)
            label = f"{row.target} ({row.target_by})" if row.target else printable(row.path)
            axes[0].set_xlabel(label, fontsize=9, parse_math=False)
            self._draw_map(figure, axes[1], row.activation, 0.0, max(row.whole_activation, float(row.activation.max())))
            axes[1].set_xlabel(f"unit {row.unit}; without occluder {row.whole_activation:.4g}", fontsize=8)
            _draw_projections(axes[2], row)
            if row.probability is not None and row.best is not None:
                self._draw_map(figure, axes[3], row.probability, 0.0, max(row.whole_probability or 0, row.probability.max()))
                axes[3].set_xlabel(f"without occluder {row.whole_probability:.1%}", fontsize=8)
                self._draw_classes(axes[4], row.best, row.names)
            else:
                for one in axes[3:]:
                    one.text(0.5, 0.5, "These weights have\nno classifier.", ha="center", va="center", fontsize=9)
            for one in axes:
                one.set_xticks([])
                one.set_yticks([])
        about = (
            f"occluder: {self.occluder.shape} of {self.occluder.size} pixels, steps of {self.occluder.stride}, "
            f"{'the mean colour' if self.occluder.colour is None else self.occluder.colour}; a place in a map is the "
            f"occluder's position; photos {self.photos.digest[:12]}"
        )
        write_at(figure, _LEFT, height - 0.12, about, fontsize=7, color="0.35")
        return figure

    def _draw_map(self, figure: Figure, axes: Axes, values: np.ndarray, low: float, high: float) -> None:
        drawn = axes.imshow(values, cmap="viridis", vmin=low, vmax=high or 1.0)
        bar = figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0.0, 0.04, 1.0)))
        bar.ax.tick_params(labelsize=7)

    def _draw_classes(self, axes: Axes, best: np.ndarray, names: dict[int, str]) -> None:
        """The most frequent classes have colours of their own."""
        frequent = [number for number, _ in Counter(best.ravel().tolist()).most_common()]
        place = {number: min(rank, _NAMED) for rank, number in enumerate(frequent)}
        ranks = np.vectorize(place.__getitem__)(best)
        axes.imshow(ranks, cmap=ListedColormap(_COLOURS), norm=BoundaryNorm(range(len(_COLOURS) + 1), len(_COLOURS)))
        handles = [Patch(color=_COLOURS[rank], label=names[number]) for rank, number in enumerate(frequent[:_NAMED])]
        if len(frequent) > _NAMED:
            handles.append(Patch(color=_COLOURS[_NAMED], label=f"{len(frequent) - _NAMED} others"))
        legend = axes.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _draw_projections(axes: Axes, row: Occluded) -> None:
    """Two by two, each on its own grey scale, cut off where the photo ends; this photo's first, framed."""
    axes.set_xlim(0, 2)
    axes.set_ylim(2, 0)
    for number, projection in enumerate([row.projection, *(projection for _, projection in row.others)]):
        left, top = number % 2, number // 2
        height, width = (0.48 * length / max(projection.shape[1:]) for length in projection.shape[1:])
        extent = (left + 0.5 - width, left + 0.5 + width, top + 0.5 + height, top + 0.5 - height)
        axes.imshow(to_pixels(projection, grey_scale(projection)), extent=extent)
    axes.plot([0.01, 0.99, 0.99, 0.01, 0.01], [0.01, 0.01, 0.99, 0.99, 0.01], color="black", linewidth=2)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)


def _most_frequent(best: np.ndarray) -> int:
    return int(Counter(best.ravel().tolist()).most_common(1)[0][0])
