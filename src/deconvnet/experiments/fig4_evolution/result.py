"""The result of Fig. 4: how a network's units changed while it was trained."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.experiments.fig4_evolution.convergence import CONVERGED_SIMILARITY, convergence_epoch
from deconvnet.experiments.result import add_axes_inches, add_text_inches, hit_as_json
from deconvnet.formatting import json_numbers
from deconvnet.mining import Hit
from deconvnet.projection import display_scale, to_pixels
from deconvnet.projection.picture import tile_grid

# The figure. Pixels: a projection, the gap between two; per inch.
_TILE, _GAP, _DPI = 106, 6, 200
# Inches: a projection and its gap; room above each block for epochs, left of it for units; between blocks; above all.
_STEP, _BLOCK_TOP, _BLOCK_LEFT, _BLOCK_GAP, _HEADER = (_TILE + _GAP) / _DPI, 0.45, 0.45, 0.2, 0.85
_COLOURS, _MARKERS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8a800", "#d95f02"), "os^Dv<"


@dataclass(frozen=True)
class LayerEvolution:
    """One layer at each snapshot, compared with itself at the last one."""

    units: list[int]
    """The units that are shown, drawn at random from those active at the last snapshot, as far as there are enough."""
    hits: list[list[Hit | None]]
    """(units, epochs) their strongest activations; None where no image activates the unit."""
    projections: Tensor
    """(units, epochs, 3, h, w) of the hits, cropped to the receptive field; zeros where there is none."""
    similarities: list[float]
    """(epochs,) the median, over all units of the layer, of their similarity to the last snapshot; NaN if all are constant
    there.
    """
    same_image_fraction: list[float]
    """(epochs,) the fraction of the units active at the last snapshot whose strongest image is already the same; NaN if none
    is active.
    """


@dataclass(frozen=True)
class Evolution:
    """How the units of a network's convolutional layers changed while it was trained."""

    network: str
    """Full name."""
    epochs: list[int]
    """Of the snapshots, ascending."""
    layers: dict[str, LayerEvolution]
    image_set: ImageSet
    read_count: int
    """Number of images that could be read."""
    compared_count: int
    """Number of images on which the snapshots were compared."""
    seed: int

    @property
    def convergence_epochs(self) -> dict[str, int | None]:
        """The epoch at which each layer converged, see `convergence_epoch`; None if not before the last snapshot."""
        return {name: convergence_epoch(self.epochs, layer.similarities) for name, layer in self.layers.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "epochs": self.epochs,
            "settled": self.convergence_epochs,
            "threshold": CONVERGED_SIMILARITY,
            "images": {"digest": self.image_set.digest, "found": len(self.image_set), "read": self.read_count},
            "compared": self.compared_count,
            "seed": self.seed,
            "layers": {
                name: {
                    "similarities": json_numbers(layer.similarities),
                    "same_photo": json_numbers(layer.same_image_fraction),
                    "units": {
                        str(unit): [hit and hit_as_json(hit) for hit in hits]
                        for unit, hits in zip(layer.units, layer.hits, strict=True)
                    },
                }
                for name, layer in self.layers.items()
            },
        }

    def figures(self) -> dict[str, Figure]:
        return {"evolution": self.figure()}

    def figure(self) -> Figure:
        """A block for each layer, as in the paper: a row for each unit, a column for each epoch; and a plot of similarities.

        A row has one grey scale over all epochs, symmetric about zero: the 99.5th percentile of its absolute values is black
        or white. So a unit with weak activations at first is nearly flat there, and rows cannot be compared with each other.
        """
        max_units = max(len(layer.units) for layer in self.layers.values())
        cells = len(self.layers) + 1  # one for the similarities
        width, height = max(_STEP * len(self.epochs), 3.0), max(_STEP * max_units, 1.8)
        cell_width, cell_height = width + _BLOCK_LEFT + _BLOCK_GAP, height + _BLOCK_TOP + _BLOCK_GAP
        columns = min(cells, max(1, round(math.sqrt(cells * cell_height / cell_width))))
        size = max(columns * cell_width, 6.5), _HEADER + math.ceil(cells / columns) * cell_height
        figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
        self._draw_header(figure)
        for cell, name in enumerate([*self.layers, None]):
            left = cell % columns * cell_width + _BLOCK_LEFT
            top = _HEADER + cell // columns * cell_height + _BLOCK_TOP
            if name is not None:
                self._draw_layer(figure, name, left, top, width)
            else:
                self._draw_similarities(figure, left, top, width, height)
        return figure

    def _draw_header(self, figure: Figure) -> None:
        explanation = (
            f"Each unit's strongest activation among {self.read_count:,} photos, projected down to pixels.\n"
            f"Columns: epochs. Rows: random units (seed {self.seed}), each on one grey scale over all epochs.\n"
            "A layer has settled where its units' median similarity to the end stays at or above "
            f"{CONVERGED_SIMILARITY:g} (dashed)."
        )
        add_text_inches(figure, 0.15, 0.3, f"How units change while {self.network} learns", fontsize=13)
        add_text_inches(figure, 0.15, 0.83, explanation, fontsize=8, color="0.35")

    def _draw_layer(self, figure: Figure, name: str, left: float, top: float, width: float) -> None:
        layer, epoch = self.layers[name], self.convergence_epochs[name]
        block = _block(layer.projections)
        axes = add_axes_inches(figure, left, top, block.shape[1] / _DPI, block.shape[0] / _DPI)  # one pixel to one pixel
        axes.imshow(block)
        step, middle = _TILE + _GAP, _TILE / 2
        axes.set_xticks([column * step + middle for column in range(len(self.epochs))], map(str, self.epochs))
        axes.set_yticks([row * step + middle for row in range(len(layer.units))], map(str, layer.units))
        axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False, pad=2)
        axes.spines[:].set_visible(False)
        status = f"not settled before epoch {self.epochs[-1]}" if epoch is None else f"settled at epoch {epoch}"
        _write_title(figure, left, top - 0.22, width, name, status)

    def _draw_similarities(self, figure: Figure, left: float, top: float, width: float, height: float) -> None:
        axes = add_axes_inches(figure, left, top, width, height - 0.35)  # leaves room for its labels
        for index, (name, layer) in enumerate(self.layers.items()):
            colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
            axes.plot(layer.similarities, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.axhline(CONVERGED_SIMILARITY, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(self.epochs)), map(str, self.epochs))
        axes.set_ylim(min(-0.02, axes.get_ylim()[0]), 1.02)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch", fontsize=8)
        axes.legend(fontsize=7, frameon=False, loc="best")
        _write_title(figure, left, top - 0.06, width, "similarity to the end", f"median, {self.compared_count} photos")


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
