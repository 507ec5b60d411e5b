"""What a network makes of one photo: classes, driven units, maps and projections.

All of it belongs in the worker's thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.experiments.class_labels import class_name
from deconvnet.explorer.models import Ready
from deconvnet.explorer.responses import significant
from deconvnet.projection import display_scale, project_batch, to_pixels
from deconvnet.tracing import Box

#: Units of each layer that are shown, and classes.
UNITS = 6
CLASSES = 5


@dataclass(frozen=True)
class Driven:
    """A unit that the photo drives, at its strongest activation."""

    unit: int
    value: float
    row: int
    column: int
    box: Box
    """Its receptive field, moved inside the view."""
    map: Tensor
    """(rows, columns), all its activations."""

    def as_json(self) -> dict[str, Any]:
        """Without the map, which may be large."""
        return {"unit": self.unit, "value": self.value, "row": self.row, "column": self.column, "box": list(self.box)}


@dataclass(frozen=True)
class Seen:
    """What one forward pass shows."""

    probabilities: Tensor | None
    """(classes,), None for a network that does not classify."""
    layers: dict[str, list[Driven]]
    """Each layer's most driven units, strongest first; those that are not active at all are left out."""

    def as_json(self, ready: Ready) -> dict[str, Any]:
        """Plain values."""
        return {
            "classes": self.probabilities
            if self.probabilities is None
            else [
                {"number": number, "name": class_name(ready.network, number), "probability": self.probability(number)}
                for number in self.best()
            ],
            "layers": [{"name": name, "units": [unit.as_json() for unit in units]} for name, units in self.layers.items()],
        }

    def best(self) -> list[int]:
        """The most probable classes, of a network that classifies."""
        assert self.probabilities is not None
        return self.probabilities.topk(min(CLASSES, len(self.probabilities))).indices.tolist()

    def probability(self, number: int) -> float | None:
        """That of one class."""
        return None if self.probabilities is None else significant(float(self.probabilities[number]))

    def map(self, layer: str, unit: int) -> Tensor | None:
        """The map of a unit, if it is one of those that are driven most."""
        return next((driven.map for driven in self.layers[layer] if driven.unit == unit), None)

    def strongest(self, layer: str) -> int:
        """The unit of a layer that is driven most; 0 where none is."""
        return self.layers[layer][0].unit if self.layers[layer] else 0


def see(ready: Ready, x: Tensor, check: Callable[[], None] = lambda: None) -> Seen:
    """Show the input x (3, crop, crop) to the network, once. `check` is called at each layer, to end it."""
    network, layers = ready.network, {}

    def visit(name: str, maps: Tensor) -> None:
        check()
        layers[name] = _driven(ready, name, maps[0])

    # The whole view in place of itself: the one pass that gives both the layers and the output.
    output = network.forward_patched(x[None], None, x[None], torch.zeros(1, 2, dtype=torch.int64), network.layers, visit)
    return Seen(output[0].float().softmax(dim=0).cpu() if ready.classes else None, layers)


def _driven(ready: Ready, layer: str, maps: Tensor) -> list[Driven]:
    flat = maps.flatten(1)
    maxima = flat.amax(dim=1)
    maxima = maxima.where(maxima.isfinite(), 0)  # of broken weights, which may still have sound units
    chosen = maxima.argsort(descending=True, stable=True)[:UNITS]
    chosen = chosen[maxima[chosen] > 0]
    field, width = ready.network.layer(layer).field, maps.shape[2]
    driven = []
    for unit, value, place in zip(
        chosen.tolist(), maxima[chosen].tolist(), flat[chosen].argmax(dim=1).tolist(), strict=True
    ):
        row, column = divmod(place, width)
        kept = maps[unit].float().cpu().clone()
        driven.append(Driven(unit, value, row, column, field.patch_box(row, column), kept))
    return driven


def find_map(ready: Ready, x: Tensor, layer: str, unit: int) -> Tensor:
    """All activations of a unit, (rows, columns)."""
    return ready.network.activations(x[None], layer)[0, unit].float().cpu().reshape(ready.network.layer(layer).map_size)


def map_as_json(layer: str, unit: int, values: Tensor) -> dict[str, Any]:
    """A unit's map (rows, columns), and its strongest activation."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    return {
        "unit": unit,
        "layer": layer,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "values": [[significant(value, 4) for value in line] for line in values.tolist()],
        "row": row,
        "column": column,
        "value": significant(float(values[row, column])),
    }


def projection_pixels(ready: Ready, x: Tensor, layer: str, unit: int, place: tuple[int, int] | None) -> np.ndarray:
    """One activation's projection as a picture of the whole view (crop, crop, 3) uint8; `place` None is the strongest.

    Its greys are scaled by what lies inside the receptive field.
    """
    at = None if place is None else torch.tensor([place])
    projected = project_batch(ready.network, x[None], layer, torch.tensor([unit]), at)
    field = ready.network.layer(layer).field
    left, top, right, bottom = field.patch_box(int(projected.rows[0]), int(projected.columns[0]))
    pixels = projected.pixels[0].float().cpu()
    return to_pixels(pixels, display_scale(pixels[:, top:bottom, left:right]))
