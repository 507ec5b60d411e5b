"""The picture of a sanity check: curves of likeness, and a photo's pictures as more and more is random."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deconvnet.experiments.result import axes_at, write_at
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, RandomisationCurve
from deconvnet.experiments.sanity_checks.randomisation import said
from deconvnet.projection import display_scale, to_pixels
from deconvnet.tracing import Box

_TITLES = {"signed": "signed: rank correlation", "absolute": "absolute: rank correlation of sizes", "ssim": "SSIM"}
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31")
# Inches: a plot, between plots, a picture and the next, left, above, a letter of a plot's labels, a line of text.
_PLOT, _BETWEEN, _PICTURE, _LEFT, _ABOVE, _LETTER, _LINE = 3.0, 0.55, 1.15, 1.15, 0.95, 0.058, 0.19
# Some rule sets draw the same where a network has nothing that sets them apart: dashes let all be seen.
_DASHES = ("-", (0, (5, 2)), (0, (2, 2)), "-", "-", "-.")
_ORDERS = {
    "by_map": ("what matters most first", _COLOURS[0]),
    "from_the_centre": ("the centre first", _COLOURS[1]),
    "at_random": ("in random order", "0.6"),
}


def sanity_figure(
    network: str,
    first_photo: tuple[np.ndarray, Box, str],
    rules: Mapping[str, RandomisationCurve],
    maps: RandomisationCurve | None,
    deletion: DeletionCurve | None,
    sentences: Sequence[str],
    about: str,
) -> Figure:
    """`first_photo` is its view, the box that is projected, and its class; `rules` are courses of projections, by rule
    set; `maps` that of occlusion maps.
    """
    view, box, photo_class = first_photo
    first = next(iter(rules.values()))
    plots = len(_TITLES) + (maps is not None) + (deletion is not None)
    shown = [first, maps] if maps is not None else [first]
    columns = 1 + max(len(course.steps) for course in shown)
    below = 0.55 + _LETTER * max(len(name) for course in shown for name in _names(course))
    width = max(_LEFT + plots * (_PLOT + _BETWEEN), _LEFT + columns * _PICTURE + 0.3)
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, int(width * 13), subsequent_indent="   ")]
    photo_top = _ABOVE + _PLOT + below
    pictures_top = photo_top + _PICTURE + 0.25
    maps_top = pictures_top + len(rules) * _PICTURE + 0.3
    text_top = maps_top + (_PICTURE + 0.1 if maps is not None else 0.0) + 0.15
    height = text_top + _LINE * len(lines) + 0.3
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    write_at(figure, 0.3, 0.35, f"What pictures depend on: {network}", fontsize=13, fontweight="bold")

    across = [_LEFT - 0.6 + number * (_PLOT + _BETWEEN) for number in range(plots)]
    places = [axes_at(figure, left, _ABOVE, _PLOT, _PLOT) for left in across]
    for axes, (measure, title) in zip(places, _TITLES.items(), strict=False):
        for colour, dashes, (name, course) in zip(_COLOURS, _DASHES, rules.items(), strict=False):
            _draw_course(axes, course, measure, colour, name, dashes)
        _label(axes, first, f"projections, {title}\n(dotted: unrelated weights)")
    places[0].legend(fontsize=7, frameon=False)
    if maps is not None:
        _draw_course(places[len(_TITLES)], maps, "maps", "black", "")
        _label(places[len(_TITLES)], maps, "rank correlation of occlusion maps\n(dotted: unrelated weights)")
    if deletion is not None:
        _draw_deletion(places[-1], deletion)

    write_at(figure, 0.1, photo_top + _PICTURE / 2, photo_class, fontsize=7)
    axes = axes_at(figure, _LEFT, photo_top, _PICTURE - 0.05, _PICTURE - 0.05)
    axes.imshow(view)
    size = box.right - box.left - 1, box.bottom - box.top - 1
    axes.add_patch(Rectangle((box.left, box.top), *size, fill=False, edgecolor="red", linewidth=1))
    axes.axis("off")
    explained = "In red: what the projected activation sees. Below: its projections, as more and more weights are random."
    write_at(figure, _LEFT + _PICTURE + 0.1, photo_top + _PICTURE / 2, explained, fontsize=7)
    for row, (name, course) in enumerate(rules.items()):
        projections = [torch.from_numpy(picture) for picture in course.pictures]
        pictures = [to_pixels(projection, display_scale(projection)) for projection in projections]
        _draw_pictures(figure, pictures_top + row * _PICTURE, name, pictures, course if row == 0 else None)
    if maps is not None:
        _draw_pictures(figure, maps_top, "occlusion", maps.pictures, maps)
    for number, line in enumerate(lines):
        write_at(figure, 0.3, text_top + _LINE * (number + 1), line, fontsize=8)
    write_at(figure, 0.3, height - 0.12, about, fontsize=6.5, color="0.35")
    return figure


def _draw_course(axes: Axes, course: RandomisationCurve, measure: str, colour: str, name: str, dashes: Any = "-") -> None:
    """The mean, and between the lowest and the highest draw."""
    if course.unknown(measure) == course.values[measure].size:
        axes.plot([], [], color=colour, label=f"{name} (undefined)")
        return
    draws = np.concatenate([np.ones((len(course.by_draw(measure)), 1)), course.by_draw(measure)], axis=1)
    lowest, highest = (pick.reduce(draws, axis=0) for pick in (np.fmin, np.fmax))  # of what is known
    axes.plot([1.0, *course.mean(measure)], color=colour, linestyle=dashes, marker="o", markersize=3, label=name)
    axes.fill_between(range(draws.shape[1]), lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(course.baseline(measure), color=colour, linewidth=0.8, linestyle=":")


def _label(axes: Axes, course: RandomisationCurve, title: str) -> None:
    axes.set_xticks(range(len(course.steps) + 1), ["none", *_names(course)], rotation=90, fontsize=7, parse_math=False)
    axes.set_title(title, fontsize=9)
    axes.set_ylim(min(axes.dataLim.y0 - 0.05, -0.15), 1.03)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", labelsize=7)


def _draw_deletion(axes: Axes, deletion: DeletionCurve) -> None:
    for name, curves in deletion.orders.items():
        label, colour = _ORDERS[name]
        axes.plot(deletion.shares, curves.mean(0), color=colour, label=label)
    axes.set_title("probability of the class\nas more of the photo is covered", fontsize=9)
    axes.set_xlabel("share covered", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)


def _draw_pictures(
    figure: Figure, top: float, name: str, pictures: Sequence[np.ndarray], titled: RandomisationCurve | None
) -> None:
    """One row, from the original on; with what has been made random above if it is `titled`."""
    write_at(figure, 0.1, top + _PICTURE / 2, name, fontsize=7)
    for column, picture in enumerate(pictures):
        axes = axes_at(figure, _LEFT + column * _PICTURE, top, _PICTURE - 0.05, _PICTURE - 0.05)
        axes.imshow(picture)
        axes.axis("off")
        if titled is not None:
            axes.set_title(["none random", *_names(titled)][column], fontsize=6, pad=2, parse_math=False)


def _names(course: RandomisationCurve) -> list[str]:
    """Of its steps, each after the first on top of those before."""
    return [said(step) if number == 0 else f"+ {said(step)}" for number, step in enumerate(course.steps)]
