"""What a network computes from one image: class probabilities, strongest units, feature maps and projections.

All functions but those that only make JSON belong in the networks' thread (`Worker`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.experiments.class_labels import class_name
from deconvnet.experiments.look import UnitActivation, strongest_units
from deconvnet.explorer.served_networks import LoadedNetwork
from deconvnet.formatting import json_number, json_numbers
from deconvnet.projection import display_scale, project_batch, to_pixels

#: Strongest units that are shown for each layer, and most probable classes.
MAX_UNITS = 6
MAX_CLASSES = 5


@dataclass(frozen=True)
class ImageAnalysis:
    """The results of one forward pass."""

    probabilities: Tensor | None
    """(classes,) float32 on the CPU; None for a network that does not classify."""
    layers: dict[str, list[UnitActivation]]
    """Each layer's strongest units, strongest first; units that are not active are left out."""

    def as_json(self, loaded: LoadedNetwork) -> dict[str, Any]:
        """Plain values for the page, without feature maps."""
        classes = None
        if self.probabilities is not None:
            classes = [
                {"number": index, "name": class_name(loaded.network, index), "probability": self.probability(index)}
                for index in self.top_classes()
            ]
        layers = [{"name": name, "units": [unit.as_json() for unit in units]} for name, units in self.layers.items()]
        return {"classes": classes, "layers": layers}

    def top_classes(self) -> list[int]:
        """Indices of the most probable classes; only of a network that classifies."""
        assert self.probabilities is not None
        return self.probabilities.topk(min(MAX_CLASSES, len(self.probabilities))).indices.tolist()

    def probability(self, class_index: int) -> float | None:
        """The probability of a class, to six digits; None if the network does not classify."""
        return None if self.probabilities is None else json_number(float(self.probabilities[class_index]), 6)

    def feature_map(self, layer: str, unit: int) -> Tensor | None:
        """The feature map (rows, columns) of a unit; None unless it is one of the layer's strongest."""
        return next((activation.feature_map for activation in self.layers[layer] if activation.unit == unit), None)

    def strongest_unit(self, layer: str) -> int:
        """The unit of a layer with the largest activation; 0 if none is active."""
        return self.layers[layer][0].unit if self.layers[layer] else 0


def analyse(loaded: LoadedNetwork, x: Tensor, check_cancelled: Callable[[], None] = lambda: None) -> ImageAnalysis:
    """Run the network once on the input x (3, crop, crop). `check_cancelled` is called at each layer, and may raise."""
    network, layers = loaded.network, {}

    def collect(layer: str, maps: Tensor) -> None:
        check_cancelled()
        layers[layer] = strongest_units(network.layer(layer), maps[0], MAX_UNITS)

    with torch.inference_mode():
        returned = network.capture(x[None], network.layers, collect, to_end=True)
    return ImageAnalysis(class_probabilities(loaded, returned), layers)


def class_probabilities(loaded: LoadedNetwork, returned: Any) -> Tensor | None:
    """Softmax (classes,) of what the module returned for one input, float32 on the CPU; None if that is no score for each
    class.
    """
    return loaded.network.find_output(returned, 1)[0].float().softmax(dim=0).cpu() if loaded.class_count else None


def feature_map(loaded: LoadedNetwork, x: Tensor, layer: str, unit: int) -> Tensor:
    """All activations of a unit for the input x (3, crop, crop), (rows, columns) float32 on the CPU."""
    network = loaded.network
    return network.activations(x[None], layer)[0, unit].float().cpu().reshape(network.layer(layer).map_size)


def feature_map_json(layer: str, unit: int, values: Tensor) -> dict[str, Any]:
    """A unit's feature map (rows, columns) and its strongest activation, as plain values for the page."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    return {
        "unit": unit,
        "layer": layer,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "values": json_numbers(values, 4),
        "row": row,
        "column": column,
        "value": json_number(float(values[row, column]), 6),
    }


def projection_pixels(
    loaded: LoadedNetwork, x: Tensor, layer: str, unit: int, position: tuple[int, int] | None
) -> np.ndarray:
    """The projection of one activation as a picture of the whole view, (crop, crop, 3) uint8.

    `position` is the activation's row and column; None takes the unit's strongest. Grey levels are scaled by the values
    inside the receptive field.
    """
    positions = None if position is None else torch.tensor([position])
    projections = project_batch(loaded.network, x[None], layer, torch.tensor([unit]), positions)
    crop = projections.crop(loaded.network.layer(layer))[0].float().cpu()
    return to_pixels(projections.pixels[0].float().cpu(), display_scale(crop))
