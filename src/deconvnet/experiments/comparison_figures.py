"""The pictures of a comparison: filter sheets, units of the second layer, and what was measured."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from PIL import Image
from torch import Tensor

from deconvnet.atlas.drawing import filter_tiles
from deconvnet.experiments.inches import axes_at, write_at
from deconvnet.experiments.side import LayerMeasures, Side
from deconvnet.experiments.spectra import BAND_NAMES, BANDS
from deconvnet.projection import grey_scale, to_pixels
from deconvnet.projection.picture import MID_GREY, in_rows

Sides = tuple[Side, Side]

# Pixels: a filter, a block of nine pictures, between blocks. Inches: margins, between networks, headings.
_FILTER, _BLOCK, _GAP, _DPI = 44, 168, 10, 200
_MARGIN, _BETWEEN, _HEADER = 0.4, 0.5, 0.7
_FILTERS_ACROSS, _BLOCKS_ACROSS = 11, 5

_COLOURS, _HATCHES, _MARKERS = ("#3b6fb6", "#e08214"), ("", "///"), ("o", "^")
_BANDS = ("#d9d9d9", "#969696", "#404040")


def filter_figure(sides: Sides) -> Figure | None:
    """All filters of both first layers, eleven to a row, each sheet on one scale (Fig. 6b, c); None if one has none."""
    sheets = []
    for side in sides:
        if side.filters is None:
            return None
        tiles = _enlarged(filter_tiles(side.filters), _FILTER)
        sheets.append((side, in_rows(tiles, _FILTERS_ACROSS, gap=4, background=255)))
    width = sum(sheet.shape[1] for _, sheet in sheets) / _DPI + 2 * _MARGIN + _BETWEEN + 0.15
    height = max(sheet.shape[0] for _, sheet in sheets) / _DPI + _HEADER + 0.15
    figure = Figure(figsize=(max(width, 7.0), height), dpi=_DPI, facecolor="white")
    left = _MARGIN
    for side, sheet in sheets:
        assert side.filters is not None
        count, _, rows, columns = side.filters.shape
        _title(
            figure, left, side, f"{count} filters of {rows}×{columns} pixels; black, white: ±{side.filters.abs().max():.2g}"
        )
        axes = axes_at(figure, left, _HEADER, sheet.shape[1] / _DPI, sheet.shape[0] / _DPI)
        axes.imshow(sheet)
        starts = range(0, count, _FILTERS_ACROSS)
        _label_rows(axes, [row * (_FILTER + 4) + _FILTER / 2 for row in range(len(starts))], starts)
        left += sheet.shape[1] / _DPI + _BETWEEN
    return figure


def block_figure(sides: Sides, about: str) -> Figure:
    """Units of both second layers: projections of their strongest activations, and the patches that they come from
    (Fig. 6d, e).
    """
    most = max(len(side.blocks) for side in sides)
    across = min(_BLOCKS_ACROSS, most)
    down, step = math.ceil(most / across), (_BLOCK + _GAP) / _DPI
    half, panel = across * step, down * (step + 0.13)
    figure = Figure(
        figsize=(max(2 * half + 2 * _MARGIN + _BETWEEN, 7.0), 2 * (panel + _HEADER) + 0.25), dpi=_DPI, facecolor="white"
    )
    for number, side in enumerate(sides):
        top = number * (panel + _HEADER)
        _title(
            figure,
            _MARGIN,
            side,
            f"{side.second}: random units, projections of their strongest activations, and the patches that they come from",
            top,
        )
        for place, pieces in enumerate(side.blocks):
            x, y = _MARGIN + place % across * step, top + _HEADER + 0.13 + place // across * (step + 0.13)
            projections = to_pixels(pieces.projections, grey_scale(pieces.projections))
            for offset, tiles in ((0.0, projections), (half + _BETWEEN, pieces.patches)):
                axes = axes_at(figure, x + offset, y, _BLOCK / _DPI, _BLOCK / _DPI)
                axes.imshow(_block(tiles, pieces.projections.shape[2:]))
                axes.axis("off")
                write_at(figure, x + offset, y - 0.03, f"unit {pieces.unit}", fontsize=6)
    write_at(figure, _MARGIN, 2 * (panel + _HEADER) + 0.12, about, fontsize=6, color="0.35")
    return figure


def measure_figure(sides: Sides, sentences: Sequence[str], about: str) -> Figure:
    """What was measured of all units, layer by layer, and what it says."""
    lines = [
        line for sentence in sentences for line in textwrap.wrap(sentence, 150, initial_indent="• ", subsequent_indent="   ")
    ]
    width, plots, words = 12.0, 7.2, 0.19 * len(lines) + 0.3
    figure = Figure(figsize=(width, 0.9 + plots + words), dpi=130, facecolor="white")
    height = 0.9 + plots + words
    legend = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=side.network)
        for side, colour, hatch in zip(sides, _COLOURS, _HATCHES, strict=True)
    ]
    figure.legend(handles=legend, loc="upper left", bbox_to_anchor=(0.03, 0.995), frameon=False, fontsize=11, ncols=1)
    grid = figure.add_gridspec(
        2, 3, left=0.06, right=0.985, top=1 - 0.95 / height, bottom=(words + 0.75) / height, hspace=0.5, wspace=0.28
    )
    _draw_gratings(figure, grid[0, 0], sides)
    _draw_energy(figure.add_subplot(grid[0, 1]), sides)
    aliasing = [{name: layer for name, layer in side.layers.items() if layer.aliasing is not None} for side in sides]
    _draw_boxes(figure.add_subplot(grid[0, 2]), aliasing, "aliasing", "aliased share of a unit's answers")
    layers = [side.layers for side in sides]
    _draw_bars(
        figure.add_subplot(grid[1, 0]), layers, "hardly_active", "units active in under 1 % of photos; dark: in none", "dead"
    )
    _draw_bars(figure.add_subplot(grid[1, 1]), layers, "duplicates", "filters nearly the same as another")
    _draw_boxes(figure.add_subplot(grid[1, 2]), layers, "rms", "RMS of filters", log=True)
    for number, line in enumerate([*lines, about]):
        style: dict[str, Any] = {"fontsize": 8.5} if number < len(lines) else {"fontsize": 7, "color": "0.35"}
        write_at(figure, 0.4, height - words + 0.19 * number, line, **style)
    return figure


def _draw_gratings(figure: Figure, place: Any, sides: Sides) -> None:
    axes = figure.add_subplot(place, projection="polar")
    axes.set_title("gratings that first-layer filters prefer\n(angle of the stripes; cycles per pixel)", fontsize=9, pad=-14)
    for side, colour, marker in zip(sides, _COLOURS, _MARKERS, strict=True):
        if side.spectra is not None:
            angle = torch.deg2rad(side.spectra.orientation.nan_to_num(nan=0.0))
            axes.scatter(angle, side.spectra.frequency, s=14, c=colour, marker=marker, alpha=0.65, linewidths=0)
    axes.set_thetamin(0)  # type: ignore[attr-defined]
    axes.set_thetamax(180)  # type: ignore[attr-defined]
    axes.set_ylim(0, 0.55)
    axes.set_yticks(BANDS, ["1/8", "1/4"])
    axes.tick_params(labelsize=7, pad=0)


def _draw_energy(axes: Axes, sides: Sides) -> None:
    rows = [
        (side.network.partition(" (")[0], side.spectra.energy.nanmean(dim=0)) for side in sides if side.spectra is not None
    ]
    noise = torch.tensor([math.pi * BANDS[0] ** 2, math.pi * (BANDS[1] ** 2 - BANDS[0] ** 2), 1 - math.pi * BANDS[1] ** 2])
    rows.append(("white noise", noise))
    for row, (_, shares) in enumerate(rows):
        start = 0.0
        for band, share in enumerate(shares.tolist()):
            axes.barh(
                row, share, left=start, color=_BANDS[band], edgecolor="white", label=BAND_NAMES[band] if row == 0 else None
            )
            start += share
    axes.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    _finish(axes, "energy of first-layer filters by frequency")


def _draw_boxes(axes: Axes, layers: Sequence[dict[str, LayerMeasures]], measure: str, title: str, log: bool = False) -> None:
    for number, (found, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        values = [getattr(layer, measure) for layer in found.values()]
        places = [place for place, value in enumerate(values) if _known(value)]
        known = [value[~value.isnan()].numpy() for value in values if _known(value)]
        if known:
            drawn = axes.boxplot(
                known,
                positions=[place + (number - 0.5) * 0.36 for place in places],
                widths=0.3,
                patch_artist=True,
                manage_ticks=False,
                flierprops={"markersize": 1.5, "markeredgecolor": colour},
                medianprops={"color": "black"},
            )
            for box in drawn["boxes"]:
                box.set(facecolor=colour, alpha=0.75, hatch=_HATCHES[number])
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _name_layers(axes, layers)
    _finish(axes, title)


def _draw_bars(axes: Axes, layers: Sequence[dict[str, LayerMeasures]], measure: str, title: str, darker: str = "") -> None:
    for number, (found, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        for name, alpha in ((measure, 0.75), (darker, 1.0)):
            values = [getattr(layer, name) if name else None for layer in found.values()]
            shares = [0.0 if value is None else float(value.double().mean()) for value in values]
            places = [place + (number - 0.5) * 0.36 for place in range(len(values))]
            if name:
                axes.bar(
                    places, shares, 0.34, color=colour, alpha=alpha, hatch=_HATCHES[number], edgecolor="white", linewidth=0
                )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.01))
    _name_layers(axes, layers)
    _finish(axes, title)


def _known(value: Tensor | None) -> bool:
    return value is not None and not bool(value.isnan().all())


def _name_layers(axes: Axes, layers: Sequence[dict[str, LayerMeasures]]) -> None:
    """Layers stand beside each other by their place in the networks, whatever they are called."""
    most = max(map(len, layers))
    names = [[*found, *[""] * (most - len(found))] for found in layers]
    labels = [one if one == other else "\n".join(filter(None, (one, other))) for one, other in zip(*names, strict=True)]
    axes.set_xticks(range(most), labels, rotation=90 if most > 8 else 0, fontsize=7)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _title(figure: Figure, left: float, side: Side, below: str, top: float = 0.0) -> None:
    name, bracket, weights = side.network.partition(" (")
    write_at(figure, left, top + 0.26, name, fontsize=11, fontweight="bold")
    write_at(figure, left, top + 0.42, (bracket + weights).strip(" ()"), fontsize=6.5, color="0.35")
    write_at(figure, left, top + 0.6, below, fontsize=7.5)


def _label_rows(axes: Axes, places: Sequence[float], numbers: Sequence[int]) -> None:
    """The number of the first unit of each row."""
    axes.set_xticks([])
    axes.set_yticks(places, [str(number) for number in numbers], fontsize=6)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _enlarged(tiles: np.ndarray, side: int) -> np.ndarray:
    """Tiles (N, h, w, 3), each `side` pixels high and wide: small ones stay crisp squares, large ones are averaged down."""
    method = Image.Resampling.NEAREST if max(tiles.shape[1:3]) < side else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(tile).resize((side, side), method)) for tile in tiles])


def _block(tiles: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Up to nine tiles of one unit in a square, places without one grey: (_BLOCK, _BLOCK, 3)."""
    across = max(1, math.ceil(math.sqrt(len(tiles))))
    full = np.full((across * across, *size, 3), MID_GREY, dtype=np.uint8)
    full[: len(tiles)] = tiles
    return _enlarged(in_rows(full, across)[None], _BLOCK)[0]
