"""The pictures of a comparison: filter sheets, units of the second layer, and what was measured."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from PIL import Image

from deconvnet.atlas.render import filter_tiles
from deconvnet.experiments.fig6_comparison.network_stats import LayerMeasures, Side, Sides
from deconvnet.experiments.fig6_comparison.spectra import BAND_NAMES, BANDS
from deconvnet.experiments.result import axes_at, write_at
from deconvnet.projection import display_scale, to_pixels
from deconvnet.projection.picture import MID_GREY, tile_grid

Layers = Sequence[dict[str, LayerMeasures]]

# Pixels: a filter, a block of nine pictures, between filters, between blocks. Inches: at the left, between networks, above
# each; the least that a network's title needs.
_FILTER, _BLOCK, _CLOSE, _GAP, _DPI = 58, 168, 4, 10, 200
_LEFT, _BETWEEN, _ABOVE, _WIDE = 0.4, 0.5, 0.75, 3.4
_FILTERS_ACROSS, _BLOCKS_ACROSS = 11, 5

_COLOURS, _HATCHES, _MARKERS = ("#3b6fb6", "#e08214"), ("", "///"), ("o", "^")
_BANDS = ("#d9d9d9", "#969696", "#404040")
#: Layers that are named at an axis, at most.
_NAMED = 16


def filter_figure(sides: Sides, about: str) -> Figure | None:
    """All filters of both first layers, eleven to a row, each sheet on one scale (Fig. 6b, c); None if one has none."""
    filters = [side.filters for side in sides if side.filters is not None]
    if len(filters) < len(sides):
        return None
    tiles = [np.stack([_fitted(tile, _FILTER) for tile in filter_tiles(weights)]) for weights in filters]
    sheets = [tile_grid(sheet, _FILTERS_ACROSS, gap=_CLOSE, background=255) for sheet in tiles]
    widths = [max(sheet.shape[1] / _DPI, _WIDE) for sheet in sheets]
    height = max(sheet.shape[0] for sheet in sheets) / _DPI + _ABOVE + 0.35
    figure = Figure(figsize=(sum(widths) + _LEFT + 2 * _BETWEEN, height), dpi=_DPI, facecolor="white")
    left = _LEFT
    for side, weights, pictures, sheet, width in zip(sides, filters, tiles, sheets, widths, strict=True):
        count, _, rows, columns = weights.shape
        _write_title(
            figure, left, 0, side, f"{count} filters of {rows}×{columns} pixels; black, white: ±{weights.abs().max():.2g}"
        )
        axes = axes_at(figure, left, _ABOVE, sheet.shape[1] / _DPI, sheet.shape[0] / _DPI)
        axes.imshow(sheet)
        step, starts = pictures.shape[1] + _CLOSE, range(0, count, _FILTERS_ACROSS)
        axes.set_yticks(
            [row * step + step / 2 for row in range(len(starts))], map(str, starts), fontsize=6
        )  # the first unit
        axes.set_xticks([])
        axes.tick_params(length=0, pad=2)
        axes.spines[:].set_visible(False)
        left += width + _BETWEEN
    write_at(figure, _LEFT, height - 0.12, about, fontsize=6, color="0.35")
    return figure


def block_figure(sides: Sides, about: str) -> Figure:
    """Units of both second layers: projections of their strongest activations, and the patches that they come from
    (Fig. 6d, e).
    """
    most = max(len(side.blocks) for side in sides)
    across = min(_BLOCKS_ACROSS, most)
    down, step = math.ceil(most / across), (_BLOCK + _GAP) / _DPI
    half, panel = across * step, _ABOVE + down * (step + 0.13)
    size = max(2 * half + _LEFT + 2 * _BETWEEN, 6.0), 2 * panel + 0.35
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    below = "random units, projections of their strongest activations, and the patches that they come from"
    for number, side in enumerate(sides):
        top = number * panel
        _write_title(figure, _LEFT, top, side, f"{side.second}: {below}")
        for place, pieces in enumerate(side.blocks):
            x, y = _LEFT + place % across * step, top + _ABOVE + 0.13 + place // across * (step + 0.13)
            projections = to_pixels(pieces.projections, display_scale(pieces.projections))
            for offset, tiles in ((0.0, projections), (half + _BETWEEN, pieces.patches)):
                block = _block(tiles, pieces.projections.shape[2:])
                axes = axes_at(figure, x + offset, y, block.shape[1] / _DPI, block.shape[0] / _DPI)
                axes.imshow(block)
                axes.axis("off")
                write_at(figure, x + offset, y - 0.03, f"unit {pieces.unit}", fontsize=6)
    write_at(figure, _LEFT, size[1] - 0.12, about, fontsize=6, color="0.35")
    return figure


def measure_figure(sides: Sides, sentences: Sequence[str], about: str) -> Figure:
    """What was measured of all units, layer by layer, and what it says."""
    lines = [
        line for sentence in sentences for line in textwrap.wrap(sentence, 165, initial_indent="• ", subsequent_indent="   ")
    ]
    above, plots, below = 0.9, 7.0, 0.19 * len(lines) + 0.35
    height = above + plots + below
    figure = Figure(figsize=(12, height), dpi=130, facecolor="white")
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=side.network)
        for side, colour, hatch in zip(sides, _COLOURS, _HATCHES, strict=True)
    ]
    for text in figure.legend(handles=handles, loc="upper left", frameon=False, fontsize=11).get_texts():
        text.set_parse_math(False)
    grid = figure.add_gridspec(
        2, 3, left=0.06, right=0.985, top=1 - above / height, bottom=(below + 0.75) / height, hspace=0.5, wspace=0.28
    )
    _draw_gratings(figure.add_subplot(grid[0, 0], projection="polar"), sides)
    _draw_energy(figure.add_subplot(grid[0, 1]), sides)
    layers = [side.layers for side in sides]
    aliased = "share of a unit's answers that steps cannot hold"
    _draw_boxes(figure.add_subplot(grid[0, 2]), [_by_steps(found) for found in layers], "aliasing", aliased)
    idle = "units active in under 1 % of photos; dark: in none"
    _draw_bars(figure.add_subplot(grid[1, 0]), layers, ("hardly_active", "dead"), idle)
    _draw_bars(figure.add_subplot(grid[1, 1]), layers, ("duplicates",), "filters nearly the same as another")
    _draw_boxes(figure.add_subplot(grid[1, 2]), layers, "rms", "RMS of filters", log=True)
    for number, line in enumerate(lines):
        write_at(figure, 0.4, height - below + 0.2 + 0.19 * number, line, fontsize=8.5)
    write_at(figure, 0.4, height - 0.1, about, fontsize=7, color="0.35")
    return figure


def _draw_gratings(axes: Axes, sides: Sides) -> None:
    axes.set_title("gratings that first-layer filters prefer\n(angle of the stripes; cycles per pixel)", fontsize=9, pad=-14)
    for side, colour, marker in zip(sides, _COLOURS, _MARKERS, strict=True):
        if side.spectra is not None:
            angle = torch.deg2rad(side.spectra.orientation.nan_to_num(nan=0.0))
            axes.scatter(angle, side.spectra.frequency, s=14, c=colour, marker=marker, alpha=0.65, linewidths=0)
    axes.set_thetamin(0)  # type: ignore[attr-defined]
    axes.set_thetamax(180)  # type: ignore[attr-defined]
    axes.set_ylim(0, math.sqrt(0.5))  # of diagonal stripes of one pixel
    axes.set_yticks(BANDS, ["1/8", "1/4"])
    axes.tick_params(labelsize=7, pad=0)


def _draw_energy(axes: Axes, sides: Sides) -> None:
    noise = [math.pi * BANDS[0] ** 2, math.pi * (BANDS[1] ** 2 - BANDS[0] ** 2), 1 - math.pi * BANDS[1] ** 2]
    rows = [
        (side.network.partition(" (")[0], colour, side.spectra.shares.tolist())
        for side, colour in zip(sides, _COLOURS, strict=True)
        if side.spectra is not None
    ]
    rows.append(("white noise", "black", noise))
    for row, (_, _, shares) in enumerate(rows):
        start = 0.0
        for band, share in enumerate(shares):
            axes.barh(row, share, left=start, color=_BANDS[band], edgecolor="white", label=None if row else BAND_NAMES[band])
            start += share
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for label, (_, colour, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(parse_math=False, color=colour)  # two trainings of one network have one name
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    _finish(axes, "energy of first-layer filters by frequency")


def _by_steps(layers: dict[str, LayerMeasures]) -> dict[str, LayerMeasures]:
    """The layers whose aliasing was measured; those above the first by the first one's steps too."""
    known = {name: layer for name, layer in layers.items() if layer.aliasing is not None}
    above = {f"{name}, by\n{next(iter(known))}'s": layer for name, layer in list(known.items())[1:]}
    return known | {name: replace(layer, aliasing=layer.aliasing_below) for name, layer in above.items()}


def _draw_boxes(axes: Axes, layers: Layers, measure: str, title: str, log: bool = False) -> None:
    for number, (found, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        values = [(place, getattr(layer, measure)) for place, layer in enumerate(found.values())]
        known = [(place, value[~value.isnan()]) for place, value in values if value is not None]
        known = [(place, value) for place, value in known if len(value)]
        if known:
            drawn = axes.boxplot(
                [value.numpy() for _, value in known],
                positions=[place + (number - 0.5) * 0.36 for place, _ in known],
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


def _draw_bars(axes: Axes, layers: Layers, measures: Sequence[str], title: str) -> None:
    """The share of each layer's units; what comes later is drawn darker over what comes before."""
    for number, (found, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        for measure, alpha in zip(measures, (0.75, 1.0), strict=False):
            values = [(place, getattr(layer, measure)) for place, layer in enumerate(found.values())]
            known = [
                (place + (number - 0.5) * 0.36, float(value.double().mean())) for place, value in values if value is not None
            ]
            bars = axes.bar([place for place, _ in known], [share for _, share in known], 0.34, color=colour, alpha=alpha)
            for bar in bars:
                bar.set(hatch=_HATCHES[number], edgecolor="white", linewidth=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.01))
    _name_layers(axes, layers)
    _finish(axes, title)


def _name_layers(axes: Axes, layers: Layers) -> None:
    """Layers stand beside each other by their place in the networks, whatever they are called."""
    most = max(map(len, layers))
    named = range(0, most, math.ceil(most / _NAMED))
    names = [[*found, *[""] * (most - len(found))] for found in layers]
    pairs = [(names[0][place], names[1][place]) for place in named]
    labels = [one if one == other else "\n".join(filter(None, (one, other))) for one, other in pairs]
    axes.set_xticks(named, labels, rotation=0 if sum(map(len, labels)) < 60 else 90)
    axes.set_xlim(-0.6, most - 0.4)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _write_title(figure: Figure, left: float, top: float, side: Side, below: str) -> None:
    name, _, weights = side.network.partition(" (")
    write_at(figure, left, top + 0.26, name, fontsize=11, fontweight="bold")
    write_at(figure, left, top + 0.43, textwrap.shorten(weights.removesuffix(")"), 80), fontsize=6.5, color="0.35")
    write_at(figure, left, top + 0.63, below, fontsize=7.5)


def _fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture (h, w, 3), no side longer than `side`: small ones enlarged to crisp squares, large ones averaged down."""
    height, width = picture.shape[:2]
    zoom = side / max(height, width)
    if zoom >= 1:
        return picture.repeat(int(zoom), axis=0).repeat(int(zoom), axis=1)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _block(tiles: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Up to nine tiles of one unit in a square, places without one grey."""
    across = max(1, math.ceil(math.sqrt(len(tiles))))
    full = np.full((across * across, *size, 3), MID_GREY, dtype=np.uint8)
    full[: len(tiles)] = tiles
    return _fitted(tile_grid(full, across), _BLOCK)
