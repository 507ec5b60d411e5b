"""Fig. 4: how a network's units changed while it was trained."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.experiments.settling import SETTLED, settled
from deconvnet.images import Photos
from deconvnet.mining import Hit
from deconvnet.projection import grey_scale, to_pixels
from deconvnet.projection.picture import in_rows

_TILE = 112  # pixels of the picture, as wide as a projection is drawn
_CELL = 0.56  # inches
_GAP = 6  # pixels between two projections


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
    photos: Photos
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
            "images": {"digest": self.photos.digest, "found": len(self.photos), "read": self.read},
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

    def figure(self) -> Figure:
        """A block for each layer, as in the paper: a row for each unit, a column for each epoch. And the similarities.

        A row has one grey scale over all epochs, symmetric about zero: the 99.5th percentile of its absolute values is black
        or white. So a unit that answers weakly at first is nearly flat there, and rows cannot be compared with each other.
        """
        count = len(self.layers) + 1  # with the similarities
        rows_of_tiles, tiles_across = max(len(layer.units) for layer in self.layers.values()), len(self.epochs)
        across = min(count, max(1, round(math.sqrt(count * rows_of_tiles / tiles_across))))
        down = math.ceil(count / across)
        # All in inches from here.
        left, gap, header, title = 0.55, 0.35, 1.1, 0.62
        width, height = max(_CELL * tiles_across, 2.6), _CELL * rows_of_tiles
        page = across * (left + width) + (across - 1) * gap + 0.15, header + down * (height + title) + 0.1
        figure = Figure(figsize=page, dpi=200, facecolor="white")

        def block(number: int) -> Axes:
            x = left + number % across * (left + width + gap)
            y = page[1] - header - (number // across + 1) * (height + title) + 0.12
            return figure.add_axes((x / page[0], y / page[1], width / page[0], height / page[1]))

        for number, (name, layer) in enumerate(self.layers.items()):
            self._draw_layer(block(number), name, layer)
        self._draw_similarities(block(count - 1))
        self._draw_header(figure, page)
        return figure

    def _draw_header(self, figure: Figure, page: tuple[float, float]) -> None:
        lines = [
            (0.3, 13, "black", f"How units change while {self.network} learns"),
            (0.52, 8, "0.35", f"Each unit's strongest activation among {self.read:,} photos, projected down to pixels."),
            (
                0.68,
                8,
                "0.35",
                f"Columns: epochs. Rows: random units (seed {self.seed}), each on one grey scale over all epochs.",
            ),
        ]
        for top, size, colour, text in lines:
            figure.text(0.15 / page[0], 1 - top / page[1], text, fontsize=size, color=colour, parse_math=False)

    def _draw_layer(self, axes: Axes, name: str, layer: LayerEvolution) -> None:
        axes.imshow(_block(layer.projections), interpolation="lanczos", aspect="auto")
        step = _TILE + _GAP
        axes.set_xticks([number * step + _TILE / 2 for number in range(len(self.epochs))], map(str, self.epochs))
        axes.set_yticks([number * step + _TILE / 2 for number in range(len(layer.units))], map(str, layer.units))
        axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False, pad=2)
        axes.spines[:].set_visible(False)
        epoch = self.settled[name]
        when = f"not settled before epoch {self.epochs[-1]}" if epoch is None else f"settled at epoch {epoch}"
        axes.set_title(name, fontsize=10, fontweight="bold", loc="left", pad=4)
        axes.set_title(when, fontsize=9, color="0.35", loc="right", pad=4)

    def _draw_similarities(self, axes: Axes) -> None:
        box = axes.get_position()  # room for the labels that the blocks do not have
        axes.set_position((box.x0, box.y0 + 0.12 * box.height, box.width, 0.88 * box.height))
        colours = ["#440154", "#3b528b", "#21918c", "#5ec962", "#d8a800", "#d95f02", "#999999"]
        for number, (name, layer) in enumerate(self.layers.items()):
            colour, marker = colours[number % len(colours)], "os^Dv<>"[number % 7]
            axes.plot(layer.similarities, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.axhline(SETTLED, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(self.epochs)), map(str, self.epochs))
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.03)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch", fontsize=8)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
        axes.set_title("similarity to the last epoch", fontsize=10, fontweight="bold", loc="left", pad=4)
        axes.set_title(f"median unit, {self.compared} photos", fontsize=9, color="0.35", loc="right", pad=4)


def _block(projections: Tensor) -> np.ndarray:
    """Projections (units, epochs, 3, h, w) in rows and columns, (H, W, 3) uint8, each row on its own grey scale."""
    tiles = np.concatenate([to_pixels(row, grey_scale(row)) for row in projections])
    # Small ones stay crisp squares; large ones are averaged down.
    method = Image.Resampling.NEAREST if tiles.shape[1] < _TILE else Image.Resampling.LANCZOS
    resized = np.stack([np.asarray(Image.fromarray(tile).resize((_TILE, _TILE), method)) for tile in tiles])
    return in_rows(resized, projections.shape[1], gap=_GAP, background=255)


def _finite(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _place(hit: Hit) -> dict[str, Any]:
    """A hit without what is said of it elsewhere."""
    return {"value": hit.value, "path": hit.path, "row": hit.row, "column": hit.column, "box": list(hit.box)}
