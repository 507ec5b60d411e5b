"""The figure of an occlusion experiment, laid out like the paper's Fig. 7: five columns, a row for each image."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import Formatter, PercentFormatter, ScalarFormatter

from deconvnet.experiments.fig7_occlusion.image_result import OccludedImage
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.formatting import printable, shorten
from deconvnet.projection import display_scale, to_pixels

# Inches: width and height of a panel, gap between panels, height of a row, top and left margin.
_PANEL, _GAP, _ROW, _TOP_MARGIN, _LEFT_MARGIN = 2.5, 0.6, 3.25, 1.05, 0.35

#: Class colours, the same in all rows; the last is shared by all classes beyond `_MAX_NAMED_CLASSES`.
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#f2c14e", "#7a5195", "#6fc2e8", "#8c6d31", "#f29cab", "#bbbbbb")
_MAX_NAMED_CLASSES = len(_COLOURS) - 1

_MAX_PATH_LENGTH = 40

#: Left, right, bottom and top, as matplotlib's `imshow` takes them.
Extent = tuple[float, float, float, float]


def occlusion_figure(
    network_name: str,
    layer: str,
    images: Sequence[OccludedImage],
    occluder: Occluder,
    starts: tuple[range, range],
    size: tuple[int, int],
    footnote: str,
) -> Figure:
    """Fig. 7. A value in a map is drawn where the centre of the occluder was in the view.

    `starts` are the rows of the occluder's upper edge at all positions, and the columns of its left edge; `size` is the
    height and width of the view.
    """
    width, height = _LEFT_MARGIN + 5 * (_PANEL + _GAP) + 1.0, _TOP_MARGIN + _ROW * len(images) + 0.3
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    add_text_inches(figure, _LEFT_MARGIN, 0.35, f"Occlusion: {network_name}", fontsize=13, fontweight="bold")
    has_classes = any(image.prediction_map is not None for image in images)
    titles = (
        f"(a) occluder where {'the class is least probable' if has_classes else 'the unit is least active'}",
        f"(b) {layer}, strongest unit: total activation",
        "(c) its projections; framed: of (a)",
        "(d) probability of the class",
        "(e) most probable class",
    )
    for column, title in enumerate(titles):
        add_text_inches(figure, _LEFT_MARGIN + column * (_PANEL + _GAP), 0.75, title, fontsize=8.5)
    colour_indices = _colour_indices(images)
    (first_row, last_row), (first_column, last_column) = (
        (axis[0] + (occluder.size - occluder.stride) / 2, axis[-1] + (occluder.size + occluder.stride) / 2)
        for axis in starts
    )
    extent = (first_column, last_column, last_row, first_row)
    for row, image in enumerate(images):
        top = _TOP_MARGIN + _ROW * row
        axes = [add_axes_inches(figure, _LEFT_MARGIN + column * (_PANEL + _GAP), top, _PANEL, _PANEL) for column in range(5)]
        axes[0].imshow(image.occluded_view)
        class_label = f"{image.class_name} ({image.class_source})\n" if image.class_name else ""
        path = shorten(printable(image.path), _MAX_PATH_LENGTH, keep="end")
        axes[0].set_xlabel(f"{class_label}{path}", fontsize=8, parse_math=False)
        _draw_map(figure, axes[1], image.activation_map, image.clean_activation, extent, ScalarFormatter())
        axes[1].set_xlabel(f"unit {image.unit}; without occluder {image.clean_activation:.4g}", fontsize=8)
        _draw_projections(axes[2], image)
        map_axes = [axes[1]]
        if image.probability_map is not None and image.prediction_map is not None and image.clean_prediction is not None:
            clean_probability = image.clean_probability or 0.0
            _draw_map(figure, axes[3], image.probability_map, clean_probability, extent, PercentFormatter(1.0))
            axes[3].set_xlabel(f"without occluder {clean_probability:.1%}", fontsize=8)
            _draw_classes(axes[4], image, colour_indices, extent)
            clean_class = image.class_names[image.clean_prediction]
            axes[4].set_xlabel(f"without occluder {clean_class}", fontsize=8, parse_math=False)
            map_axes += axes[3:]
        else:
            for panel in axes[3:]:
                panel.text(0.5, 0.5, "These weights have\nno classifier.", ha="center", va="center", fontsize=9)
        for panel in map_axes:  # the whole view, though the occluder's centre does not reach its borders
            panel.set_xlim(0, size[1])
            panel.set_ylim(size[0], 0)
            panel.set_facecolor("0.93")
        for panel in axes:
            panel.set_xticks([])
            panel.set_yticks([])
    down, right_of = (length - axis[-1] - occluder.size for length, axis in zip(size, starts, strict=True))
    uncovered = ""
    if down or right_of:
        count = f"{down} pixels down and" if down == right_of else f"{down} pixels down and {right_of}"
        uncovered = f"; the last {count} to the right are never covered"
    footnote = f"a place in a map is the occluder's centre; lines at scales: without occluder; {footnote}{uncovered}"
    add_text_inches(figure, _LEFT_MARGIN, height - 0.12, footnote, fontsize=7, color="0.35")
    return figure


def _colour_indices(images: Sequence[OccludedImage]) -> dict[int, int]:
    """The index into `_COLOURS` of each class that is predicted anywhere; the most frequent classes come first."""
    counts: Counter[int] = Counter()
    for image in images:
        counts.update([] if image.prediction_map is None else image.prediction_map.ravel().tolist())
    return {class_index: min(rank, _MAX_NAMED_CLASSES) for rank, (class_index, _) in enumerate(counts.most_common())}


def _draw_map(
    figure: Figure, axes: Axes, values: np.ndarray, clean_value: float, extent: Extent, tick_format: Formatter
) -> None:
    """Draw a map on a scale from 0, with a colour bar on which a line marks the value without an occluder."""
    image = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=max(clean_value, float(values.max())) or 1.0, extent=extent)
    colorbar = figure.colorbar(image, cax=axes.inset_axes((1.02, 0.0, 0.04, 1.0)), format=tick_format)
    colorbar.ax.axhline(clean_value, color="red", linewidth=1.2)
    colorbar.ax.tick_params(labelsize=7)


def _draw_classes(axes: Axes, image: OccludedImage, colour_indices: dict[int, int], extent: Extent) -> None:
    """Draw the map of predicted classes and a legend of those that have their own colour."""
    assert image.prediction_map is not None
    colours = np.vectorize(colour_indices.__getitem__)(image.prediction_map)
    norm = BoundaryNorm(range(len(_COLOURS) + 1), len(_COLOURS))
    axes.imshow(colours, cmap=ListedColormap(_COLOURS), norm=norm, extent=extent)
    predictions = image.predictions_by_frequency
    with_colour = [class_index for class_index in predictions if colour_indices[class_index] < _MAX_NAMED_CLASSES]
    handles = [Patch(color=_COLOURS[colour_indices[index]], label=image.class_names[index]) for index in with_colour]
    if len(with_colour) < len(predictions):
        handles.append(Patch(color=_COLOURS[-1], label=f"{len(predictions) - len(with_colour)} others"))
    legend = axes.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_projections(axes: Axes, image: OccludedImage) -> None:
    """Draw up to four projections, two by two, each on its own grey scale; the first, framed, is of this image."""
    axes.set_xlim(0, 2)
    axes.set_ylim(2, 0)
    for index, projection in enumerate([image.projection, *(projection for _, projection in image.other_hits)]):
        row, column = divmod(index, 2)
        half_height, half_width = (0.48 * length / max(projection.shape[1:]) for length in projection.shape[1:])
        extent = (
            column + 0.5 - half_width,
            column + 0.5 + half_width,
            row + 0.5 + half_height,
            row + 0.5 - half_height,
        )
        axes.imshow(to_pixels(projection, display_scale(projection)), extent=extent)
    axes.plot([0.01, 0.99, 0.99, 0.01, 0.01], [0.01, 0.01, 0.99, 0.99, 0.01], color="black", linewidth=2)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
