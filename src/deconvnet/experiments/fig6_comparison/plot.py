"""The figures of a comparison: filter sheets, units of the second layer, and measurements of all units."""

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
from torch import Tensor

from deconvnet.atlas.render import filter_tiles
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.experiments.fig6_comparison.network_stats import LayerStats, NetworkStats, NetworkStatsPair
from deconvnet.experiments.fig6_comparison.spectra import BAND_EDGES, BAND_NAMES
from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.formatting import shorten
from deconvnet.projection import display_scale, to_pixels
from deconvnet.projection.picture import MID_GREY, tile_grid

LayersPair = Sequence[dict[str, LayerStats]]
"""The layers of both networks, by name."""

# Pixels: a filter; nine pictures of a unit; the gap between filters, between units; per inch.
_FILTER, _UNIT_BLOCK, _FILTER_GAP, _BLOCK_GAP, _DPI = 58, 168, 4, 10, 200
# Inches: left margin; between networks; room above each network; the narrowest sheet, for a network's title.
_LEFT, _NETWORK_GAP, _TITLE_HEIGHT, _MIN_SHEET_WIDTH = 0.4, 0.5, 0.75, 3.4
_FILTER_COLUMNS, _UNIT_COLUMNS = 11, 5

_COLOURS, _HATCHES, _MARKERS = ("#3b6fb6", "#e08214"), ("", "///"), ("o", "^")
_BAND_COLOURS = ("#d9d9d9", "#969696", "#404040")
#: Labels of layers on an axis, at most.
_MAX_LAYER_LABELS = 16
#: Distance between both networks' boxes or bars of a layer; layers are 1 apart.
_SPACING = 0.36


def filter_figure(networks: NetworkStatsPair, source: str) -> Figure | None:
    """All filters of both first layers, eleven to a row, each sheet on one scale (Fig. 6b, c); None if one has none."""
    filters = [stats.filters for stats in networks if stats.filters is not None]
    if len(filters) < len(networks):
        return None
    tiles = [np.stack([_resize(tile, _FILTER) for tile in filter_tiles(weights)]) for weights in filters]
    sheets = [tile_grid(sheet_tiles, _FILTER_COLUMNS, gap=_FILTER_GAP, background=255) for sheet_tiles in tiles]
    widths = [max(sheet.shape[1] / _DPI, _MIN_SHEET_WIDTH) for sheet in sheets]
    height = max(sheet.shape[0] for sheet in sheets) / _DPI + _TITLE_HEIGHT + 0.35
    figure = Figure(figsize=(sum(widths) + _LEFT + 2 * _NETWORK_GAP, height), dpi=_DPI, facecolor="white")
    left = _LEFT
    for stats, weights, sheet_tiles, sheet, width in zip(networks, filters, tiles, sheets, widths, strict=True):
        count, _, rows, columns = weights.shape
        subtitle = f"{count} filters of {rows}×{columns} pixels; black, white: ±{weights.abs().max():.2g}"
        _write_title(figure, left, 0, stats, subtitle)
        axes = add_axes_inches(figure, left, _TITLE_HEIGHT, sheet.shape[1] / _DPI, sheet.shape[0] / _DPI)
        axes.imshow(sheet)
        step, first_units = sheet_tiles.shape[1] + _FILTER_GAP, range(0, count, _FILTER_COLUMNS)
        middles = [row * step + step / 2 for row in range(len(first_units))]
        axes.set_yticks(middles, map(str, first_units), fontsize=6)
        axes.set_xticks([])
        axes.tick_params(length=0, pad=2)
        axes.spines[:].set_visible(False)
        left += width + _NETWORK_GAP
    add_text_inches(figure, _LEFT, height - 0.12, source, fontsize=6, color="0.35")
    return figure


def unit_figure(networks: NetworkStatsPair, source: str) -> Figure:
    """Units of both second layers: projections of their strongest activations, and the patches that they come from
    (Fig. 6d, e).
    """
    max_units = max(len(stats.shown_units) for stats in networks)
    columns = min(_UNIT_COLUMNS, max_units)
    rows, step = math.ceil(max_units / columns), (_UNIT_BLOCK + _BLOCK_GAP) / _DPI
    half_width, panel_height = columns * step, _TITLE_HEIGHT + rows * (step + 0.13)
    size = max(2 * half_width + _LEFT + 2 * _NETWORK_GAP, 6.0), 2 * panel_height + 0.35
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    subtitle = "random units, projections of their strongest activations, and the patches that they come from"
    for panel, stats in enumerate(networks):
        top = panel * panel_height
        _write_title(figure, _LEFT, top, stats, f"{stats.shown_layer}: {subtitle}")
        for index, unit in enumerate(stats.shown_units):
            row, column = divmod(index, columns)
            unit_left, unit_top = _LEFT + column * step, top + _TITLE_HEIGHT + 0.13 + row * (step + 0.13)
            projections = to_pixels(unit.projections, display_scale(unit.projections))
            for offset, tiles in ((0.0, projections), (half_width + _NETWORK_GAP, channels_as_rgb(unit.patches))):
                block = _unit_block(tiles)
                left, width, height = unit_left + offset, block.shape[1] / _DPI, block.shape[0] / _DPI
                axes = add_axes_inches(figure, left, unit_top, width, height)
                axes.imshow(block)
                axes.axis("off")
                add_text_inches(figure, left, unit_top - 0.03, f"unit {unit.unit}", fontsize=6)
    add_text_inches(figure, _LEFT, size[1] - 0.12, source, fontsize=6, color="0.35")
    return figure


def stats_figure(networks: NetworkStatsPair, sentences: Sequence[str], source: str) -> Figure:
    """The measurements of all units, layer by layer, and the findings as `sentences`."""
    lines = [
        line for sentence in sentences for line in textwrap.wrap(sentence, 165, initial_indent="• ", subsequent_indent="   ")
    ]
    header, plots_height, footer = 0.9, 7.0, 0.19 * len(lines) + 0.35
    height = header + plots_height + footer
    figure = Figure(figsize=(12, height), dpi=130, facecolor="white")
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=stats.network)
        for stats, colour, hatch in zip(networks, _COLOURS, _HATCHES, strict=True)
    ]
    for text in figure.legend(handles=handles, loc="upper left", frameon=False, fontsize=11).get_texts():
        text.set_parse_math(False)
    edges = {"left": 0.06, "right": 0.985, "top": 1 - header / height, "bottom": (footer + 0.75) / height}
    grid = figure.add_gridspec(2, 3, hspace=0.5, wspace=0.28, **edges)
    _draw_gratings(figure.add_subplot(grid[0, 0], projection="polar"), networks)
    _draw_energy(figure.add_subplot(grid[0, 1]), networks)
    layers = [stats.layers for stats in networks]
    by_stride = [_layers_by_stride(network_layers) for network_layers in layers]
    _draw_boxes(figure.add_subplot(grid[0, 2]), by_stride, "aliasing", "share of a unit's answers that steps cannot hold")
    inactive = "units active in under 1 % of images; dark: in none"
    _draw_bars(figure.add_subplot(grid[1, 0]), layers, ("hardly_active", "dead"), inactive)
    _draw_bars(figure.add_subplot(grid[1, 1]), layers, ("duplicates",), "filters nearly the same as another")
    _draw_boxes(figure.add_subplot(grid[1, 2]), layers, "rms", "RMS of filters", log=True)
    for number, line in enumerate(lines):
        add_text_inches(figure, 0.4, height - footer + 0.2 + 0.19 * number, line, fontsize=8.5)
    add_text_inches(figure, 0.4, height - 0.1, source, fontsize=7, color="0.35")
    return figure


def _draw_gratings(axes: Axes, networks: NetworkStatsPair) -> None:
    axes.set_title("gratings that first-layer filters prefer\n(angle of the stripes; cycles per pixel)", fontsize=9, pad=-14)
    for stats, colour, marker in zip(networks, _COLOURS, _MARKERS, strict=True):
        if stats.spectra is not None:
            angle = torch.deg2rad(stats.spectra.orientation.nan_to_num(nan=0.0))
            axes.scatter(angle, stats.spectra.frequency, s=14, c=colour, marker=marker, alpha=0.65, linewidths=0)
    axes.set_thetamin(0)  # type: ignore[attr-defined]
    axes.set_thetamax(180)  # type: ignore[attr-defined]
    axes.set_ylim(0, math.sqrt(0.5))  # of diagonal stripes of one pixel
    axes.set_yticks(BAND_EDGES, ["1/8", "1/4"])
    axes.tick_params(labelsize=7, pad=0)


def _draw_energy(axes: Axes, networks: NetworkStatsPair) -> None:
    low, middle = (math.pi * edge**2 for edge in BAND_EDGES)
    rows = [
        (stats.network.partition(" (")[0], colour, stats.spectra.energy_fractions.tolist())
        for stats, colour in zip(networks, _COLOURS, strict=True)
        if stats.spectra is not None
    ]
    rows.append(("white noise", "black", [low, middle - low, 1 - middle]))
    for row, (_, _, fractions) in enumerate(rows):
        start = 0.0
        for fraction, colour, band_name in zip(fractions, _BAND_COLOURS, BAND_NAMES, strict=True):
            axes.barh(row, fraction, left=start, color=colour, edgecolor="white", label=None if row else band_name)
            start += fraction
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for label, (_, colour, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(parse_math=False, color=colour)  # two trainings of one network have one name
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    _finish_axes(axes, "energy of first-layer filters by frequency")


def _layers_by_stride(layers: dict[str, LayerStats]) -> dict[str, LayerStats]:
    """The layers whose aliasing was measured; then those above the first with the aliasing by the first layer's stride."""
    measured = {name: layer for name, layer in layers.items() if layer.aliasing is not None}
    by_first_stride = {
        f"{name}, by\n{next(iter(measured))}'s": replace(layer, aliasing=layer.first_stride_aliasing)
        for name, layer in list(measured.items())[1:]
    }
    return measured | by_first_stride


def _defined_values(layers: dict[str, LayerStats], field: str) -> list[tuple[int, Tensor]]:
    """The position on the axis and the values, without NaN, of each layer that has any."""
    values = [(index, getattr(layer, field)) for index, layer in enumerate(layers.values())]
    defined = [(index, value[~value.isnan()]) for index, value in values if value is not None]
    return [(index, value) for index, value in defined if len(value)]


def _draw_boxes(axes: Axes, layers: LayersPair, field: str, title: str, log: bool = False) -> None:
    for number, (network_layers, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        defined = _defined_values(network_layers, field)
        if defined:
            artists = axes.boxplot(
                [value.numpy() for _, value in defined],
                positions=[index + (number - 0.5) * _SPACING for index, _ in defined],
                widths=0.3,
                patch_artist=True,
                manage_ticks=False,
                flierprops={"markersize": 1.5, "markeredgecolor": colour},
                medianprops={"color": "black"},
            )
            for box in artists["boxes"]:
                box.set(facecolor=colour, alpha=0.75, hatch=_HATCHES[number])
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _label_layers(axes, layers)
    _finish_axes(axes, title)


def _draw_bars(axes: Axes, layers: LayersPair, fields: Sequence[str], title: str) -> None:
    """The fraction of each layer's units; later fields are drawn darker, over earlier ones."""
    for number, (network_layers, colour) in enumerate(zip(layers, _COLOURS, strict=True)):
        for field, alpha in zip(fields, (0.75, 1.0), strict=False):
            defined = _defined_values(network_layers, field)
            positions = [index + (number - 0.5) * _SPACING for index, _ in defined]
            fractions = [float(value.double().mean()) for _, value in defined]
            for bar in axes.bar(positions, fractions, 0.34, color=colour, alpha=alpha):
                bar.set(hatch=_HATCHES[number], edgecolor="white", linewidth=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.01))
    _label_layers(axes, layers)
    _finish_axes(axes, title)


def _label_layers(axes: Axes, layers: LayersPair) -> None:
    """Label each position with the names of both networks' layers at that depth."""
    max_layers = max(map(len, layers))
    positions = range(0, max_layers, math.ceil(max_layers / _MAX_LAYER_LABELS))
    first_names, second_names = ([*names, *[""] * (max_layers - len(names))] for names in layers)
    pairs = [(first_names[index], second_names[index]) for index in positions]
    labels = [first if first == second else "\n".join(filter(None, (first, second))) for first, second in pairs]
    axes.set_xticks(positions, labels, rotation=0 if sum(map(len, labels)) < 60 else 90)
    axes.set_xlim(-0.6, max_layers - 0.4)


def _finish_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _write_title(figure: Figure, left: float, top: float, stats: NetworkStats, subtitle: str) -> None:
    name, _, weights = stats.network.partition(" (")
    add_text_inches(figure, left, top + 0.26, name, fontsize=11, fontweight="bold")
    add_text_inches(figure, left, top + 0.43, shorten(weights.removesuffix(")"), 80), fontsize=6.5, color="0.35")
    add_text_inches(figure, left, top + 0.63, subtitle, fontsize=7.5)


def _resize(picture: np.ndarray, max_size: int) -> np.ndarray:
    """(h, w, 3), no side longer than `max_size`: small ones scaled to crisp squares, large ones averaged down."""
    height, width = picture.shape[:2]
    zoom = max_size / max(height, width)
    if zoom >= 1:
        return picture.repeat(int(zoom), axis=0).repeat(int(zoom), axis=1)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _unit_block(tiles: np.ndarray) -> np.ndarray:
    """Up to nine tiles (n, h, w, 3) of one unit in a square; empty cells are grey."""
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    cells = np.full((columns * columns, *tiles.shape[1:]), MID_GREY, dtype=np.uint8)
    cells[: len(tiles)] = tiles
    return _resize(tile_grid(cells, columns), _UNIT_BLOCK)
