"""The figure of an evolution, laid out like the paper's Fig. 4: a block for each layer, a column for each epoch."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.experiments.fig4_evolution.convergence import CONVERGED_SIMILARITY
from deconvnet.experiments.fig4_evolution.layer_result import LayerEvolution
from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.projection import display_scale, to_pixels
from deconvnet.projection.picture import tile_grid

# Pixels: a projection, the gap between two; per inch.
_TILE, _GAP, _DPI = 106, 6, 200
# Inches: a projection and its gap; room above each block for epochs, left of it for units; between blocks; above all.
_STEP, _BLOCK_TOP, _BLOCK_LEFT, _BLOCK_GAP, _HEADER = (_TILE + _GAP) / _DPI, 0.45, 0.45, 0.2, 0.85
_COLOURS, _MARKERS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8a800", "#d95f02"), "os^Dv<"


def evolution_figure(
    network_name: str,
    epochs: Sequence[int],
    layers: Mapping[str, LayerEvolution],
    convergence_epochs: Mapping[str, int | None],
    read_count: int,
    compared_count: int,
    seed: int,
) -> Figure:
    """Fig. 4: a block for each of `layers`, a row for each unit, a column for each epoch; and a plot of similarities.

    Units were mined in `read_count` images and compared on `compared_count` of them; `seed` drew both at random. The titles
    of the blocks say the layer's entry of `convergence_epochs`, which is None for one that has not converged.
    """
    max_units = max(len(layer.units) for layer in layers.values())
    cells = len(layers) + 1  # one for the similarities
    width, height = max(_STEP * len(epochs), 3.0), max(_STEP * max_units, 1.8)
    cell_width, cell_height = width + _BLOCK_LEFT + _BLOCK_GAP, height + _BLOCK_TOP + _BLOCK_GAP
    columns = min(cells, max(1, round(math.sqrt(cells * cell_height / cell_width))))
    size = max(columns * cell_width, 6.5), _HEADER + math.ceil(cells / columns) * cell_height
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    explanation = (
        f"Each unit's strongest activation among {read_count:,} photos, projected down to pixels.\n"
        f"Columns: epochs. Rows: random units (seed {seed}), each on one grey scale over all epochs.\n"
        "A layer has settled where its units' median similarity to the end stays at or above "
        f"{CONVERGED_SIMILARITY:g} (dashed)."
    )
    add_text_inches(figure, 0.15, 0.3, f"How units change while {network_name} learns", fontsize=13)
    add_text_inches(figure, 0.15, 0.83, explanation, fontsize=8, color="0.35")
    corners = [
        (cell % columns * cell_width + _BLOCK_LEFT, _HEADER + cell // columns * cell_height + _BLOCK_TOP)
        for cell in range(cells)
    ]
    for (left, top), (name, layer) in zip(corners, layers.items(), strict=False):
        _draw_layer(figure, name, layer, epochs, convergence_epochs[name], left, top, width)
    left, top = corners[-1]
    _draw_similarities(add_axes_inches(figure, left, top, width, height - 0.35), layers, epochs)  # leaves room for labels
    _write_title(figure, left, top - 0.06, width, "similarity to the end", f"median, {compared_count} photos")
    return figure


def _draw_layer(
    figure: Figure,
    name: str,
    layer: LayerEvolution,
    epochs: Sequence[int],
    convergence_epoch: int | None,
    left: float,
    top: float,
    width: float,
) -> None:
    block = _block(layer.projections)
    axes = add_axes_inches(figure, left, top, block.shape[1] / _DPI, block.shape[0] / _DPI)  # one pixel to one pixel
    axes.imshow(block)
    step, middle = _TILE + _GAP, _TILE / 2
    axes.set_xticks([column * step + middle for column in range(len(epochs))], map(str, epochs))
    axes.set_yticks([row * step + middle for row in range(len(layer.units))], map(str, layer.units))
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False, pad=2)
    axes.spines[:].set_visible(False)
    is_settled = convergence_epoch is not None
    status = f"settled at epoch {convergence_epoch}" if is_settled else f"not settled before epoch {epochs[-1]}"
    _write_title(figure, left, top - 0.22, width, name, status)


def _draw_similarities(axes: Axes, layers: Mapping[str, LayerEvolution], epochs: Sequence[int]) -> None:
    for index, (name, layer) in enumerate(layers.items()):
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
        axes.plot(layer.similarities, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
    axes.axhline(CONVERGED_SIMILARITY, color="0.5", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(epochs)), map(str, epochs))
    axes.set_ylim(min(-0.02, axes.get_ylim()[0]), 1.02)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("epoch", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="best")


def _write_title(figure: Figure, left: float, bottom: float, width: float, title: str, remark: str) -> None:
    add_text_inches(figure, left, bottom, title, fontsize=10, fontweight="bold")
    add_text_inches(figure, left + width, bottom, remark, fontsize=9, color="0.35", ha="right")


def _block(projections: Tensor) -> np.ndarray:
    """Projections (units, epochs, 3, h, w) in rows and columns, (H, W, 3) uint8, each row on its own grey scale."""
    tiles = np.concatenate([to_pixels(row, display_scale(row)) for row in projections])
    # Small ones stay crisp squares; large ones are averaged down.
    method = Image.Resampling.NEAREST if tiles.shape[1] < _TILE else Image.Resampling.LANCZOS
    resized = np.stack([np.asarray(Image.fromarray(tile).resize((_TILE, _TILE), method)) for tile in tiles])
    return tile_grid(resized, projections.shape[1], gap=_GAP, background=255)
