"""The figure of the sanity checks: curves, and the first image's pictures as more and more weights are randomised."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, ModuleGroup, RandomisationCurve
from deconvnet.formatting import shorten
from deconvnet.projection import display_scale, to_pixels
from deconvnet.tracing import Box

_MEASURE_TITLES = {"signed": "signed: rank correlation", "absolute": "absolute: rank correlation of sizes", "ssim": "SSIM"}
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31")

# Inches: side of a plot, gap between plots, distance between pictures, left and top margin, length of a letter of a plot's
# tick labels, height of a line of text.
_PLOT, _GAP, _PICTURE, _LEFT_MARGIN, _TOP_MARGIN, _LETTER, _LINE = 3.0, 0.55, 1.15, 1.15, 0.95, 0.058, 0.19

#: Letters of a submodule's path in a tick label.
_MAX_PATH_LENGTH = 18

# By rule set. Dashes keep curves visible that coincide, as those of some rule sets do in networks without normalisation.
_LINE_STYLES = ("-", (0, (5, 2)), (0, (2, 2)), "-", "-", "-.")

# Label and colour.
_DELETION_ORDERS = {
    "by_map": ("what matters most first", _COLOURS[0]),
    "from_the_centre": ("the centre first", _COLOURS[1]),
    "at_random": ("in random order", "0.6"),
}


def sanity_figure(
    network_name: str,
    first_view: np.ndarray,
    first_box: Box,
    first_class: str,
    projection_curves: Mapping[str, RandomisationCurve],
    occlusion_curve: RandomisationCurve | None,
    deletion_curve: DeletionCurve | None,
    findings: Sequence[str],
    footnote: str,
) -> Figure:
    """Plots of the curves; below them the first image and a row of pictures for each randomisation curve; the findings.

    `first_view` is the first image (crop, crop, 3) with the projected `first_box`, and `first_class` its class.
    `projection_curves` are by rule set.
    """
    first_curve = next(iter(projection_curves.values()))
    num_plots = len(_MEASURE_TITLES) + (occlusion_curve is not None) + (deletion_curve is not None)
    labelled_curves = [first_curve, occlusion_curve] if occlusion_curve is not None else [first_curve]
    num_pictures = 1 + max(len(curve.groups) for curve in labelled_curves)
    tick_labels_height = 0.55 + _LETTER * max(len(label) for curve in labelled_curves for label in _step_labels(curve))
    width = max(_LEFT_MARGIN + num_plots * (_PLOT + _GAP), _LEFT_MARGIN + num_pictures * _PICTURE + 0.3)
    lines = [line for finding in findings for line in textwrap.wrap(finding, int(width * 13), subsequent_indent="   ")]
    view_top = _TOP_MARGIN + _PLOT + tick_labels_height
    projections_top = view_top + _PICTURE + 0.25
    maps_top = projections_top + len(projection_curves) * _PICTURE + 0.3
    findings_top = maps_top + (_PICTURE + 0.1 if occlusion_curve is not None else 0.0) + 0.15
    height = findings_top + _LINE * len(lines) + 0.3
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    add_text_inches(figure, 0.3, 0.35, f"What pictures depend on: {network_name}", fontsize=13, fontweight="bold")

    lefts = [_LEFT_MARGIN - 0.6 + index * (_PLOT + _GAP) for index in range(num_plots)]
    plots = [add_axes_inches(figure, left, _TOP_MARGIN, _PLOT, _PLOT) for left in lefts]
    for axes, (measure, title) in zip(plots, _MEASURE_TITLES.items(), strict=False):
        for colour, style, (rule_name, curve) in zip(_COLOURS, _LINE_STYLES, projection_curves.items(), strict=False):
            _draw_randomisation(axes, curve, measure, colour, rule_name, style)
        _label_steps(axes, first_curve, f"projections, {title}\n(dotted: unrelated weights)")
    plots[0].legend(fontsize=7, frameon=False)
    if occlusion_curve is not None:
        axes = plots[len(_MEASURE_TITLES)]
        _draw_randomisation(axes, occlusion_curve, "maps", "black", "")
        _label_steps(axes, occlusion_curve, "rank correlation of occlusion maps\n(dotted: unrelated weights)")
    if deletion_curve is not None:
        _draw_deletion(plots[-1], deletion_curve)

    add_text_inches(figure, 0.1, view_top + _PICTURE / 2, first_class, fontsize=7)
    axes = add_axes_inches(figure, _LEFT_MARGIN, view_top, _PICTURE - 0.05, _PICTURE - 0.05)
    axes.imshow(first_view)
    box_size = first_box.right - first_box.left - 1, first_box.bottom - first_box.top - 1
    axes.add_patch(Rectangle((first_box.left, first_box.top), *box_size, fill=False, edgecolor="red", linewidth=1))
    axes.axis("off")
    caption = "In red: what the projected activation sees. Below: its projections, as more and more weights are random."
    add_text_inches(figure, _LEFT_MARGIN + _PICTURE + 0.1, view_top + _PICTURE / 2, caption, fontsize=7)
    for row, (rule_name, curve) in enumerate(projection_curves.items()):
        projections = [torch.from_numpy(picture) for picture in curve.pictures]
        pictures = [to_pixels(projection, display_scale(projection)) for projection in projections]
        step_labels = _step_labels(curve) if row == 0 else None
        _draw_pictures(figure, projections_top + row * _PICTURE, rule_name, pictures, step_labels)
    if occlusion_curve is not None:
        _draw_pictures(figure, maps_top, "occlusion", occlusion_curve.pictures, _step_labels(occlusion_curve))
    for index, line in enumerate(lines):
        add_text_inches(figure, 0.3, findings_top + _LINE * (index + 1), line, fontsize=8)
    add_text_inches(figure, 0.3, height - 0.12, footnote, fontsize=6.5, color="0.35")
    return figure


def _draw_randomisation(
    axes: Axes, curve: RandomisationCurve, measure: str, colour: str, label: str, line_style: Any = "-"
) -> None:
    """Draw the mean similarity, the range over draws, and a dotted line for unrelated weights."""
    if curve.num_undefined(measure) == curve.similarity[measure].size:
        axes.plot([], [], color=colour, label=f"{label} (undefined)")
        return
    by_draw = curve.mean_by_draw(measure)
    by_draw = np.concatenate([np.ones((len(by_draw), 1)), by_draw], axis=1)  # the original is similar to itself by 1
    lowest, highest = np.fmin.reduce(by_draw, axis=0), np.fmax.reduce(by_draw, axis=0)  # NaN is ignored
    axes.plot([1.0, *curve.mean(measure)], color=colour, linestyle=line_style, marker="o", markersize=3, label=label)
    axes.fill_between(range(by_draw.shape[1]), lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(curve.unrelated_mean(measure), color=colour, linewidth=0.8, linestyle=":")


def _label_steps(axes: Axes, curve: RandomisationCurve, title: str) -> None:
    axes.set_xticks(range(len(curve.groups) + 1), ["none", *_step_labels(curve)], rotation=90, fontsize=7, parse_math=False)
    axes.set_title(title, fontsize=9)
    axes.set_ylim(min(axes.dataLim.y0 - 0.05, -0.15), 1.03)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", labelsize=7)


def _draw_deletion(axes: Axes, curve: DeletionCurve) -> None:
    for order, probabilities in curve.orders.items():
        label, colour = _DELETION_ORDERS[order]
        axes.plot(curve.fractions, probabilities.mean(0), color=colour, label=label)
    axes.set_title("probability of the class\nas more of the view is covered", fontsize=9)
    axes.set_xlabel("share covered", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)


def _draw_pictures(
    figure: Figure, top: float, label: str, pictures: Sequence[np.ndarray], step_labels: Sequence[str] | None
) -> None:
    """Draw a row of pictures, the original first, with the names of the randomised submodules above if given."""
    add_text_inches(figure, 0.1, top + _PICTURE / 2, label, fontsize=7)
    for column, picture in enumerate(pictures):
        axes = add_axes_inches(figure, _LEFT_MARGIN + column * _PICTURE, top, _PICTURE - 0.05, _PICTURE - 0.05)
        axes.imshow(picture)
        axes.axis("off")
        if step_labels is not None:
            axes.set_title(["none random", *step_labels][column], fontsize=6, pad=2, parse_math=False)


def _step_labels(curve: RandomisationCurve) -> list[str]:
    """The submodules randomised in each step, with "+" where earlier ones stay randomised."""
    return [f"{'+ ' if step else ''}{group_label(group)}" for step, group in enumerate(curve.groups)]


def group_label(group: ModuleGroup) -> str:
    """The path of a group's only submodule, or "to" and the path of the last one; long paths lose their beginning."""
    last = shorten(group[-1], _MAX_PATH_LENGTH, keep="end")
    return last if len(group) == 1 else f"to {last}"
