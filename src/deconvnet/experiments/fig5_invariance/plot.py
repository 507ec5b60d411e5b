"""The figure of invariance, laid out like the paper's Fig. 5: a row for each transformation, four columns."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageOps
from torch import Tensor

from deconvnet.experiments.fig5_invariance.curves import Curves
from deconvnet.experiments.fig5_invariance.transforms import Transformation
from deconvnet.experiments.result import add_text_inches
from deconvnet.projection.picture import tile_grid

# Pixels: a transformed view, the gap between two.
_THUMBNAIL, _GAP = 96, 4
#: Images in the legend, at most.
_MAX_LEGEND_ENTRIES = 20
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31", "#444444", "#17a2b8")
_LINE_STYLES = ("-", "--", "-.", ":")


def invariance_figure(
    network_name: str,
    layers: Sequence[str],
    image_labels: Sequence[str],
    curves: Iterable[Curves],
    probability_title: str,
    footnotes: Sequence[str],
) -> Figure:
    """Fig. 5: a row for each of the `curves`, with transformed views, distances at two `layers`, and probabilities."""
    labels = image_labels[:_MAX_LEGEND_ENTRIES]
    header, footer = 0.85 + 0.22 * -(-len(labels) // 4), 0.18 * len(footnotes) + 0.85  # inches
    height = header + 9.2 + footer
    figure = Figure(figsize=(15, height), dpi=110, facecolor="white")
    add_text_inches(figure, 0.4, 0.35, network_name, fontsize=13, fontweight="bold")
    figure.legend(
        handles=[
            Line2D([], [], **_line_style(index), label=label.replace("$", r"\$"))  # no mathematics
            for index, label in enumerate(labels)
        ],
        loc="upper left",
        bbox_to_anchor=(0.02, 1 - 0.4 / height),
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    edges = {"left": 0.03, "right": 0.985, "top": 1 - header / height, "bottom": footer / height}
    grid = figure.add_gridspec(3, 4, hspace=0.42, wspace=0.26, **edges)
    for row, row_curves in enumerate(curves):
        views_axes, *distance_axes, probability_axes = (figure.add_subplot(grid[row, column]) for column in range(4))
        _draw_views(views_axes, row_curves)
        for axes, distances, layer in zip(distance_axes, row_curves.distances, layers, strict=True):
            _draw_lines(axes, row_curves.transformation, distances, f"{layer}: distance", 1.45)
        if row_curves.probability is not None:
            _draw_lines(probability_axes, row_curves.transformation, row_curves.probability, probability_title, 1)
        else:
            probability_axes.text(0.5, 0.5, "These weights have no classifier.", ha="center", fontsize=9)
            probability_axes.axis("off")
    for number, line in enumerate(footnotes):
        add_text_inches(figure, 0.4, height - footer + 0.75 + 0.18 * number, line, fontsize=8, color="0.2")
    return figure


def _draw_views(axes: Axes, curves: Curves) -> None:
    """A row of transformed views for each of the first images."""
    views = np.concatenate(curves.views)
    squares = [ImageOps.pad(Image.fromarray(view), (_THUMBNAIL, _THUMBNAIL), color="white") for view in views]
    thumbnails = np.stack([np.asarray(square) for square in squares])
    values = [curves.transformation.values[index] for index in curves.transformation.shown_indices]
    axes.imshow(tile_grid(thumbnails, len(values), gap=_GAP, background=255))
    middles = [(_THUMBNAIL + _GAP) * index + _THUMBNAIL / 2 for index in range(max(len(values), len(curves.views)))]
    axes.set_xticks(middles[: len(values)], [f"{value:g}" for value in values])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    for index, middle in enumerate(middles[: len(curves.views)]):  # the line style of each image's curves
        ends = [middle - _THUMBNAIL / 2, middle + _THUMBNAIL / 2]
        axes.plot([-12, -12], ends, **_line_style(index), linewidth=3, clip_on=False)
    axes.set_xlabel(curves.transformation.axis_label, fontsize=8)
    axes.set_title("transformed views", fontsize=10)


def _draw_lines(axes: Axes, transformation: Transformation, values: Tensor, title: str, top: float) -> None:
    """A line for each image; `values` are (images, values)."""
    for index, line in enumerate(values.numpy()):
        axes.plot(transformation.values, line, **_line_style(index), linewidth=1.4)
    axes.set_ylim(0, top)
    axes.set_xlim(transformation.values[0], transformation.values[-1])
    axes.set_xlabel(transformation.axis_label, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _line_style(image: int) -> dict[str, Any]:
    """The colour and dashes of an image's curves."""
    dashes = image // len(_COLOURS) % len(_LINE_STYLES)
    return {"color": _COLOURS[image % len(_COLOURS)], "linestyle": _LINE_STYLES[dashes]}
