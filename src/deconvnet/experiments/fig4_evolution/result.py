"""Fig. 4: how a network's units changed while it was trained."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.experiments.fig4_evolution.convergence import SETTLED, settled
from deconvnet.experiments.result import axes_at, write_at
from deconvnet.mining import Hit
from deconvnet.projection import display_scale, to_pixels
from deconvnet.projection.picture import tile_grid

# The figure. In pixels: a projection as it is drawn, and between two of them.
_TILE, _GAP, _DPI = 106, 6, 200
# In inches: one projection, above and left of each block (for epochs and units), between blocks, above all.
_STEP, _TOP, _LEFT, _BETWEEN, _HEADER = (_TILE + _GAP) / _DPI, 0.45, 0.45, 0.2, 0.85
_COLOURS, _MARKERS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8a800", "#d95f02"), "os^Dv<"


@dataclass(frozen=True)
class LayerEvolution:
    """One layer at each snapshot; the end is the last snapshot."""

    units: list[int]
    """Those that are shown: random ones, of those that are active at the end as long as there are any."""
    hits: list[list[Hit | None]]
    """(units, epochs) the strongest activations; None where no photo activates the unit."""
    projections: Tensor
    """(units, epochs, 3, h, w), of the hits, cut to the receptive field; zeros where there is none."""
    similarities: list[float]
    """(epochs,) the median, over all units of the layer, of how alike they are to what they are at the end; NaN if
    all are constant at the end.
    """
    same_photo: list[float]
    """(epochs,) the share of all units active at the end whose strongest photo is the one at the end already; NaN if none is
    active.
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
    read: int
    """How many of the photos could be read."""
    compared: int
    """On how many of them the snapshots were compared."""
    seed: int

    @property
    def settled(self) -> dict[str, int | None]:
        """The epoch at which each layer settled, see `settling.settled`; None if it had not before the last snapshot."""
        return {name: settled(self.epochs, layer.similarities) for name, layer in self.layers.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "epochs": self.epochs,
            "settled": self.settled,
            "threshold": SETTLED,
            "images": {"digest": self.image_set.digest, "found": len(self.image_set), "read": self.read},
            "compared": self.compared,
            "seed": self.seed,
            "layers": {
                name: {
                    "similarities": _finite(layer.similarities),
                    "same_photo": _finite(layer.same_photo),
                    "units": {
                        str(unit): [hit and _place(hit) for hit in hits]
                        for unit, hits in zip(layer.units, layer.hits, strict=True)
                    },
                }
                for name, layer in self.layers.items()
            },
        }

    def figures(self) -> dict[str, Figure]:
        return {"evolution": self.figure()}

    def figure(self) -> Figure:
        """A block for each layer, as in the paper: a row for each unit, a column for each epoch. And the similarities.

        A row has one grey scale over all epochs, symmetric about zero: the 99.5th percentile of its absolute values is black
        or white. So a unit that answers weakly at first is nearly flat there, and rows cannot be compared with each other.
        """
        most = max(len(layer.units) for layer in self.layers.values())
        cells = len(self.layers) + 1  # with the similarities
        width, height = max(_STEP * len(self.epochs), 3.0), max(_STEP * most, 1.8)
        outer_width, outer_height = width + _LEFT + _BETWEEN, height + _TOP + _BETWEEN
        across = min(cells, max(1, round(math.sqrt(cells * outer_height / outer_width))))
        page = max(across * outer_width, 6.5), _HEADER + math.ceil(cells / across) * outer_height
        figure = Figure(figsize=page, dpi=_DPI, facecolor="white")
        self._draw_header(figure)
        for number, name in enumerate([*self.layers, ""]):
            left = number % across * outer_width + _LEFT
            top = _HEADER + number // across * outer_height + _TOP
            if name:
                self._draw_layer(figure, name, left, top, width)
            else:
                self._draw_similarities(figure, left, top, width, height)
        return figure

    def _draw_header(self, figure: Figure) -> None:
        below = (
            f"Each unit's strongest activation among {self.read:,} photos, projected down to pixels.\n"
            f"Columns: epochs. Rows: random units (seed {self.seed}), each on one grey scale over all epochs.\n"
            f"A layer has settled where its units' median similarity to the end stays at or above {SETTLED:g} (dashed)."
        )
        write_at(figure, 0.15, 0.3, f"How units change while {self.network} learns", fontsize=13)
        write_at(figure, 0.15, 0.83, below, fontsize=8, color="0.35")

    def _draw_layer(self, figure: Figure, name: str, left: float, top: float, width: float) -> None:
        layer, epoch = self.layers[name], self.settled[name]
        block = _block(layer.projections)
        axes = axes_at(figure, left, top, block.shape[1] / _DPI, block.shape[0] / _DPI)  # pixel upon pixel
        axes.imshow(block)
        step, middle = _TILE + _GAP, _TILE / 2
        axes.set_xticks([number * step + middle for number in range(len(self.epochs))], map(str, self.epochs))
        axes.set_yticks([number * step + middle for number in range(len(layer.units))], map(str, layer.units))
        axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False, pad=2)
        axes.spines[:].set_visible(False)
        when = f"not settled before epoch {self.epochs[-1]}" if epoch is None else f"settled at epoch {epoch}"
        _write_title(figure, left, top - 0.22, width, name, when)

    def _draw_similarities(self, figure: Figure, left: float, top: float, width: float, height: float) -> None:
        axes = axes_at(figure, left, top, width, height - 0.35)  # its labels stand below
        for number, (name, layer) in enumerate(self.layers.items()):
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
            axes.plot(layer.similarities, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.axhline(SETTLED, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(self.epochs)), map(str, self.epochs))
        axes.set_ylim(min(-0.02, axes.get_ylim()[0]), 1.02)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch", fontsize=8)
        axes.legend(fontsize=7, frameon=False, loc="best")
        _write_title(figure, left, top - 0.06, width, "similarity to the end", f"median, {self.compared} photos")


def _write_title(figure: Figure, left: float, bottom: float, width: float, name: str, more: str) -> None:
    write_at(figure, left, bottom, name, fontsize=10, fontweight="bold")
    write_at(figure, left + width, bottom, more, fontsize=9, color="0.35", ha="right")


def _block(projections: Tensor) -> np.ndarray:
    """Projections (units, epochs, 3, h, w) in rows and columns, (H, W, 3) uint8, each row on its own grey scale."""
    tiles = np.concatenate([to_pixels(row, display_scale(row)) for row in projections])
    # Small ones stay crisp squares; large ones are averaged down.
    method = Image.Resampling.NEAREST if tiles.shape[1] < _TILE else Image.Resampling.LANCZOS
    resized = np.stack([np.asarray(Image.fromarray(tile).resize((_TILE, _TILE), method)) for tile in tiles])
    return tile_grid(resized, projections.shape[1], gap=_GAP, background=255)


def _finite(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _place(hit: Hit) -> dict[str, Any]:
    """A hit without what is said of it elsewhere."""
    return {"value": hit.value, "path": hit.path, "row": hit.row, "column": hit.column, "box": list(hit.box)}
