"""The result of Fig. 5: how much features and probabilities change when an image is translated, scaled and rotated."""

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
from deconvnet.experiments.result import add_text_inches
from deconvnet.formatting import printable
from deconvnet.projection.picture import tile_grid

_LineStyle = Literal["-", "--", "-.", ":"]

#: Images whose transformed views the figure shows, at most; all images have curves.
MAX_SHOWN_IMAGES = 5

# The figure, in pixels.
_THUMBNAIL, _GAP = 96, 4
#: Images in the legend, at most.
_MAX_LEGEND_ENTRIES = 20
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31", "#444444", "#17a2b8")
_LINE_STYLES: tuple[_LineStyle, ...] = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Curves:
    """The effect of one transformation on each image."""

    transformation: Transformation
    first_layer: Tensor
    """(images, values) distance from the untransformed image's features at the first layer, 0 to √2."""
    last_layer: Tensor
    """(images, values) the same at the last hidden layer."""
    probability: Tensor | None
    """(images, values) of the image's class; None for a trunk."""
    views: list[np.ndarray]
    """The views of the first images that the figure shows, (shown values, crop, crop, 3) uint8 each."""

    def as_json(self) -> dict[str, Any]:
        return {
            "values": list(self.transformation.values),
            "first": self.first_layer.tolist(),
            "last": self.last_layer.tolist(),
            "probability": None if self.probability is None else self.probability.tolist(),
        }


@dataclass(frozen=True)
class Invariance:
    """How features and probabilities of images change under transformations."""

    network: str
    """Full name."""
    sha256: str
    """Of the network's weights."""
    layers: tuple[str, str]
    """The first and the last hidden layer."""
    image_set: ImageSet
    classes: list[str] | None
    """The class of each image whose probability is measured; None for a trunk."""
    class_given: bool
    """Whether the user chose the class; otherwise it is the network's prediction for the untransformed image."""
    curves: dict[str, Curves]
    """By name of the transformation."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layers": list(self.layers),
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "classes": self.classes,
            "class_given": self.class_given,
            "distance": "Euclidean, of all activations of a layer scaled to length 1",
            "vacated": "0 in the network's input: the mean",
            "findings": self.findings,
            "curves": {name: curves.as_json() for name, curves in self.curves.items()},
        }

    @property
    def findings(self) -> list[str]:
        """The paper's claims about Fig. 5 as sentences with numbers, all of them means over the images."""
        sentences = []
        for name, curves in self.curves.items():
            for layer, distances in zip(self.layers, (curves.first_layer, curves.last_layer), strict=True):
                fractions = relative_distances(curves.transformation, distances)
                sentences.append(
                    f"{name}, {layer}: the smallest step makes {fractions[0]:.0%} of the largest distance, half the way "
                    f"{fractions[1]:.0%}."
                    if fractions
                    else f"{name}, {layer}: nothing changes."
                )
            if curves.probability is not None:
                mean = curves.probability.mean(dim=0)
                untransformed = float(mean[curves.transformation.values.index(curves.transformation.identity)])
                sentences.append(f"{name}: probability of the class {untransformed:.1%}, at worst {float(mean.min()):.1%}.")
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"invariance": self.figure()}

    def figure(self) -> Figure:
        """Three rows and four columns, as in the paper: transformed images, distances at two layers, probabilities."""
        lines = [
            *self.findings,
            f"{len(self.image_set)} photos, digest {self.image_set.digest[:12]}; nothing is drawn at random.",
        ]
        entries = min(len(self.image_set), _MAX_LEGEND_ENTRIES)
        header, footer = 0.85 + 0.22 * -(-entries // 4), 0.18 * len(lines) + 0.85  # inches
        height = header + 9.2 + footer
        figure = Figure(figsize=(15, height), dpi=110, facecolor="white")
        add_text_inches(figure, 0.4, 0.35, self.network, fontsize=13, fontweight="bold")
        figure.legend(
            handles=[
                Line2D([], [], color=_colour(index), linestyle=_line_style(index), label=self._legend_label(index))
                for index in range(entries)
            ],
            loc="upper left",
            bbox_to_anchor=(0.02, 1 - 0.4 / height),
            ncols=4,
            frameon=False,
            fontsize=9,
        )
        edges = {"left": 0.03, "right": 0.985, "top": 1 - header / height, "bottom": footer / height}
        grid = figure.add_gridspec(3, 4, hspace=0.42, wspace=0.26, **edges)
        for row, curves in enumerate(self.curves.values()):
            views_axes, *distance_axes, probability_axes = (figure.add_subplot(grid[row, column]) for column in range(4))
            _draw_views(views_axes, curves)
            layer_distances = curves.first_layer, curves.last_layer
            for axes, distances, layer in zip(distance_axes, layer_distances, self.layers, strict=True):
                _draw_lines(axes, curves.transformation, distances, f"{layer}: distance", 1.45)
            if curves.probability is not None:
                title = f"probability of the {'' if self.class_given else 'predicted '}class"
                _draw_lines(probability_axes, curves.transformation, curves.probability, title, 1)
            else:
                probability_axes.text(0.5, 0.5, "These weights have no classifier.", ha="center", fontsize=9)
                probability_axes.axis("off")
        for number, line in enumerate(lines):
            add_text_inches(figure, 0.4, height - footer + 0.75 + 0.18 * number, line, fontsize=8, color="0.2")
        return figure

    def _legend_label(self, index: int) -> str:
        label = printable(self.image_set.paths[index].rpartition("/")[2])
        if self.classes is not None:
            label += f": {self.classes[index]}"
        return label.replace("$", r"\$")  # no mathematics


def _draw_views(axes: Axes, curves: Curves) -> None:
    """A row of transformed views for each of the first images."""
    views = np.concatenate(curves.views)
    thumbnails = np.stack([np.asarray(Image.fromarray(view).resize((_THUMBNAIL, _THUMBNAIL))) for view in views])
    values = [curves.transformation.values[index] for index in curves.transformation.shown_indices]
    axes.imshow(tile_grid(thumbnails, len(values), gap=_GAP, background=255))
    middles = [(_THUMBNAIL + _GAP) * index + _THUMBNAIL / 2 for index in range(max(len(values), len(curves.views)))]
    axes.set_xticks(middles[: len(values)], [f"{value:g}" for value in values])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    for index, middle in enumerate(middles[: len(curves.views)]):  # the line style of each image's curves
        ends = [middle - _THUMBNAIL / 2, middle + _THUMBNAIL / 2]
        axes.plot([-12, -12], ends, color=_colour(index), linestyle=_line_style(index), linewidth=3, clip_on=False)
    axes.set_xlabel(curves.transformation.axis_label, fontsize=8)
    axes.set_title("transformed photos", fontsize=10)


def _draw_lines(axes: Axes, transformation: Transformation, values: Tensor, title: str, top: float) -> None:
    """A line for each image; `values` are (images, values)."""
    for index, line in enumerate(values.numpy()):
        axes.plot(transformation.values, line, color=_colour(index), linestyle=_line_style(index), linewidth=1.4)
    axes.set_ylim(0, top)
    axes.set_xlim(transformation.values[0], transformation.values[-1])
    axes.set_xlabel(transformation.axis_label, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _colour(image: int) -> str:
    return _COLOURS[image % len(_COLOURS)]


def _line_style(image: int) -> _LineStyle:
    return _LINE_STYLES[image // len(_COLOURS) % len(_LINE_STYLES)]


def relative_distances(transformation: Transformation, distances: Tensor) -> tuple[float, float] | None:
    """The mean distances at the smallest step and at half of the largest step, as fractions of the largest mean distance.

    `distances` are (images, values). The second fraction is ½ if the distance grows in proportion to the step. Rotations by
    more than 180° count as rotations the other way. None if nothing changes.
    """
    steps = torch.tensor(transformation.values, dtype=torch.float64) - transformation.identity
    if transformation.name == "rotation":
        steps = torch.where(steps > 180, steps - 360, steps)
    steps, mean = steps.abs(), distances.mean(dim=0)
    if not mean.any():
        return None

    def fraction_at(step: float) -> float:
        difference = (steps - step).abs()
        return float(mean[difference <= difference.min() + 1e-9].mean() / mean.max())

    return fraction_at(float(steps[steps > 0].min())), fraction_at(float(steps.max()) / 2)
