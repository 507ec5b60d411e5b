"""Fig. 5: how much features and probabilities change when a photo is moved, enlarged and turned."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.experiments.fig5_invariance.transforms import Transformation
from deconvnet.experiments.result import write_at
from deconvnet.projection.picture import tile_grid
from deconvnet.text import printable

_Style = Literal["-", "--", "-.", ":"]

#: Photos that are pictured at most; all have curves.
PICTURED = 5

# The figure, in pixels.
_THUMBNAIL, _GAP = 96, 4
#: Photos that are named at most.
_NAMED = 20
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31", "#444444", "#17a2b8")
_STYLES: tuple[_Style, ...] = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Curves:
    """What one transformation does to each photo."""

    transformation: Transformation
    first: Tensor
    """(photos, values) distance at the first layer from the untransformed photo, 0 to √2."""
    last: Tensor
    """(photos, values) the same at the last hidden layer."""
    probability: Tensor | None
    """(photos, values) of the photo's class; None for a trunk."""
    shown: list[np.ndarray]
    """For each of the first photos its pictured views (values pictured, crop, crop, 3) uint8."""

    def as_json(self) -> dict[str, Any]:
        return {
            "values": list(self.transformation.values),
            "first": self.first.tolist(),
            "last": self.last.tolist(),
            "probability": None if self.probability is None else self.probability.tolist(),
        }


@dataclass(frozen=True)
class Invariance:
    """How features and probabilities of photos change under transformations."""

    network: str
    """Full name."""
    sha256: str
    layers: tuple[str, str]
    """The first and the last hidden layer."""
    image_set: ImageSet
    classes: list[str] | None
    """Of each photo, the class whose probability is followed; None for a trunk."""
    given: bool
    """Was the class given, or is it the one that the network says of the untransformed photo?"""
    curves: dict[str, Curves]

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layers": list(self.layers),
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "classes": self.classes,
            "class_given": self.given,
            "distance": "Euclidean, of all activations of a layer scaled to length 1",
            "vacated": "0 in the network's input: the mean",
            "findings": self.findings,
            "curves": {name: curves.as_json() for name, curves in self.curves.items()},
        }

    @property
    def findings(self) -> list[str]:
        """The paper's claims about Fig. 5, in numbers; all of means over the photos."""
        found = []
        for name, curves in self.curves.items():
            for layer, distances in zip(self.layers, (curves.first, curves.last), strict=True):
                shares = reached(curves.transformation, distances)
                found.append(
                    f"{name}, {layer}: the smallest step makes {shares[0]:.0%} of the largest distance, half the way "
                    f"{shares[1]:.0%}."
                    if shares
                    else f"{name}, {layer}: nothing changes."
                )
            if curves.probability is not None:
                mean = curves.probability.mean(dim=0)
                start = float(mean[curves.transformation.values.index(curves.transformation.identity)])
                found.append(f"{name}: probability of the class {start:.1%}, at worst {float(mean.min()):.1%}.")
        return found

    def figures(self) -> dict[str, Figure]:
        return {"invariance": self.figure()}

    def figure(self) -> Figure:
        """Three rows and four columns, as in the paper: transformed photos, distances at two layers, probabilities."""
        lines = [
            *self.findings,
            f"{len(self.image_set)} photos, digest {self.image_set.digest[:12]}; nothing is drawn at random.",
        ]
        named = min(len(self.image_set), _NAMED)
        above, below = 0.85 + 0.22 * -(-named // 4), 0.18 * len(lines) + 0.85
        height = above + 9.2 + below
        figure = Figure(figsize=(15, height), dpi=110, facecolor="white")
        write_at(figure, 0.4, 0.35, self.network, fontsize=13, fontweight="bold")
        figure.legend(
            handles=[Line2D([], [], color=_colour(n), linestyle=_style(n), label=self._name(n)) for n in range(named)],
            loc="upper left",
            bbox_to_anchor=(0.02, 1 - 0.4 / height),
            ncols=4,
            frameon=False,
            fontsize=9,
        )
        edges = {"left": 0.03, "right": 0.985, "top": 1 - above / height, "bottom": below / height}
        grid = figure.add_gridspec(3, 4, hspace=0.42, wspace=0.26, **edges)
        for row, curves in enumerate(self.curves.values()):
            axes = [figure.add_subplot(grid[row, column]) for column in range(4)]
            _draw_photos(axes[0], curves)
            for one, values, layer in zip(axes[1:3], (curves.first, curves.last), self.layers, strict=True):
                _draw_lines(one, curves, values, f"{layer}: distance", 1.45)
            if curves.probability is not None:
                which = "the class" if self.given else "the predicted class"
                _draw_lines(axes[3], curves, curves.probability, f"probability of {which}", 1)
            else:
                axes[3].text(0.5, 0.5, "These weights have no classifier.", ha="center", fontsize=9)
                axes[3].axis("off")
        for number, line in enumerate(lines):
            write_at(figure, 0.4, height - below + 0.75 + 0.18 * number, line, fontsize=8, color="0.2")
        return figure

    def _name(self, number: int) -> str:
        name = printable(self.image_set.paths[number].rpartition("/")[2])
        if self.classes is not None:
            name += f": {self.classes[number].partition(',')[0]}"
        return name.replace("$", r"\$")  # no mathematics


def _draw_photos(axes: Axes, curves: Curves) -> None:
    """A row of transformed pictures for each of the first photos."""
    tiles = np.concatenate(curves.shown)
    small = np.stack([np.asarray(Image.fromarray(tile).resize((_THUMBNAIL, _THUMBNAIL))) for tile in tiles])
    values = [curves.transformation.values[number] for number in curves.transformation.pictured]
    axes.imshow(tile_grid(small, len(values), gap=_GAP, background=255))
    middles = [(_THUMBNAIL + _GAP) * number + _THUMBNAIL / 2 for number in range(max(len(values), len(curves.shown)))]
    axes.set_xticks(middles[: len(values)], [f"{value:g}" for value in values])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    for number, middle in enumerate(middles[: len(curves.shown)]):  # which line is whose
        bar = [middle - _THUMBNAIL / 2, middle + _THUMBNAIL / 2]
        axes.plot([-12, -12], bar, color=_colour(number), linestyle=_style(number), linewidth=3, clip_on=False)
    axes.set_xlabel(curves.transformation.axis, fontsize=8)
    axes.set_title("transformed photos", fontsize=10)


def _draw_lines(axes: Axes, curves: Curves, values: Tensor, title: str, top: float) -> None:
    """A line for each photo."""
    at = curves.transformation.values
    for number, line in enumerate(values.numpy()):
        axes.plot(at, line, color=_colour(number), linestyle=_style(number), linewidth=1.4)
    axes.set_ylim(0, top)
    axes.set_xlim(at[0], at[-1])
    axes.set_xlabel(curves.transformation.axis, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _colour(photo: int) -> str:
    return _COLOURS[photo % len(_COLOURS)]


def _style(photo: int) -> _Style:
    return _STYLES[photo // len(_COLOURS) % len(_STYLES)]


def reached(transformation: Transformation, distances: Tensor) -> tuple[float, float] | None:
    """Which share of the largest distance the smallest step makes, and half of the largest (½ if it grows in proportion).

    All of the mean over photos; of rotations by more than half a turn the other way round. None if nothing changes.
    """
    steps = torch.tensor(transformation.values, dtype=torch.float64) - transformation.identity
    if transformation.name == "rotation":
        steps = torch.where(steps > 180, steps - 360, steps)
    steps, mean = steps.abs(), distances.mean(dim=0)
    if not mean.any():
        return None

    def at(step: float) -> float:
        nearest = (steps - step).abs()
        return float(mean[nearest <= nearest.min() + 1e-9].mean() / mean.max())

    return at(float(steps[steps > 0].min())), at(float(steps.max()) / 2)
