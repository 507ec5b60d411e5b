"""The result of Fig. 7 for one image: maps of a unit's activation, a class's probability and the predicted class."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from deconvnet.mining import Hit

ClassSource = Literal["label", "folder", "prediction", ""]


@dataclass(frozen=True)
class OccludedImage:
    """One image; maps are (rows, columns) of occluder positions, "clean" values are those without an occluder."""

    path: str
    view: np.ndarray
    """(crop, crop, 3) uint8, the crop that the network is shown."""
    occluded_view: np.ndarray
    """The same with the occluder where the class is least probable, or for a trunk where the unit is least active."""
    unit: int
    """The unit of the last convolutional layer with the strongest activation in this image."""
    activation_map: np.ndarray
    """The unit's total activation (the sum over its feature map) with the occluder at each position."""
    clean_activation: float
    """The unit's total activation without an occluder."""
    projection: Tensor
    """(3, h, w) of the unit's strongest activation in this image, cropped to the receptive field."""
    other_hits: list[tuple[Hit, Tensor]]
    """Up to three other images with the unit's strongest activations, and their projections, cropped likewise."""
    class_name: str
    """The class whose probability is recorded; empty for a trunk."""
    class_source: ClassSource
    """Whether that class comes from the user's label, the image's folder or the network's prediction."""
    probability_map: np.ndarray | None
    """The probability of that class, 0 to 1. None for a trunk, like all fields below."""
    clean_probability: float | None
    clean_prediction: int | None
    """Index of the most probable class without an occluder."""
    prediction_map: np.ndarray | None
    """Index of the most probable class with the occluder at each position."""
    class_names: dict[int, str]
    """By index, of `clean_prediction` and the classes in `prediction_map`."""

    @property
    def predictions_by_frequency(self) -> list[int]:
        """The classes in `prediction_map`, the most frequent first."""
        if self.prediction_map is None:
            return []
        return [index for index, _ in Counter(self.prediction_map.ravel().tolist()).most_common()]

    @property
    def finding(self) -> str:
        """The effect of the occluder in one sentence, without the image's name."""
        text = "no unit is active in it"
        if self.clean_activation:
            lowest = float(self.activation_map.min()) / self.clean_activation
            text = f"unit {self.unit} keeps {lowest:.0%} of its activation at worst"
        if self.probability_map is None or self.prediction_map is None or self.clean_prediction is None:
            return text
        most_frequent = self.predictions_by_frequency[0]
        frequency = float((self.prediction_map == most_frequent).mean())
        return (
            f"{text}; {self.class_name} has a probability of {self.clean_probability:.1%} without the occluder and of "
            f"{self.probability_map.min():.1%} at worst; most probable is {self.class_names[self.clean_prediction]} without "
            f"it, and with it {self.class_names[most_frequent]} at {frequency:.0%} of the positions"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, without views and projections."""
        return {
            "path": self.path,
            "unit": self.unit,
            "activation": self.activation_map.tolist(),
            "whole_activation": self.clean_activation,
            "others": [
                {"path": hit.path, "value": hit.value, "row": hit.row, "column": hit.column, "box": list(hit.box)}
                for hit, _ in self.other_hits
            ],
            "class": self.class_name or None,
            "class_by": self.class_source or None,
            "probability": None if self.probability_map is None else self.probability_map.tolist(),
            "whole_probability": self.clean_probability,
            "whole_most_probable": self.clean_prediction,
            "most_probable": None if self.prediction_map is None else self.prediction_map.tolist(),
            "names": {str(index): name for index, name in self.class_names.items()},
        }
