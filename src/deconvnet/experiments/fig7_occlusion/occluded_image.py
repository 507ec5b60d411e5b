"""What a classifier makes of one photo while a patch is moved over it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from deconvnet.mining import Hit


@dataclass(frozen=True)
class Occluded:
    """One photo."""

    path: str
    view: np.ndarray
    """(crop, crop, 3) uint8, what the network is shown."""
    covered: np.ndarray
    """The same with the occluder where it hurts most: where the class is least probable, or else the unit least active."""
    unit: int
    """Of the last convolutional layer, the one with the strongest activation in the photo."""
    activation: np.ndarray
    """(rows, columns) the sum of that unit's activations with the occluder at each position."""
    whole_activation: float
    """The same without an occluder."""
    projection: Tensor
    """(3, h, w) of the unit's strongest activation in the photo, cut to the receptive field."""
    others: list[tuple[Hit, Tensor]]
    """Up to three other photos that drive the unit most, with their projections."""
    target: str
    """The class that is followed; empty for a trunk."""
    target_by: Literal["label", "folder", "prediction", ""]
    """Who says so."""
    probability: np.ndarray | None
    """(rows, columns) of that class, 0 to 1; None for a trunk, as all that follows."""
    whole_probability: float | None
    whole_best: int | None
    """The number of the most probable class without an occluder."""
    best: np.ndarray | None
    """(rows, columns) the number of the most probable class."""
    names: dict[int, str]
    """Of `whole_best` and the classes in `best`."""

    @property
    def frequent(self) -> list[int]:
        """The classes in `best`, those at most positions first."""
        return [] if self.best is None else [number for number, _ in Counter(self.best.ravel().tolist()).most_common()]

    @property
    def finding(self) -> str:
        """What the occluder does, without the photo's name."""
        found = "no unit is active in it"
        if self.whole_activation:
            lowest = float(self.activation.min()) / self.whole_activation
            found = f"unit {self.unit} keeps {lowest:.0%} of its activation at worst"
        if self.probability is None or self.best is None or self.whole_best is None:
            return found
        most = self.frequent[0]
        share = float((self.best == most).mean())
        return (
            f"{found}; {self.target} has a probability of {self.whole_probability:.1%} without the occluder and of "
            f"{self.probability.min():.1%} at worst; most probable is {self.names[self.whole_best]} without it, and with it "
            f"{self.names[most]} at {share:.0%} of the positions"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "unit": self.unit,
            "activation": self.activation.tolist(),
            "whole_activation": self.whole_activation,
            "others": [
                {"path": hit.path, "value": hit.value, "row": hit.row, "column": hit.column, "box": list(hit.box)}
                for hit, _ in self.others
            ],
            "class": self.target or None,
            "class_by": self.target_by or None,
            "probability": None if self.probability is None else self.probability.tolist(),
            "whole_probability": self.whole_probability,
            "whole_most_probable": self.whole_best,
            "most_probable": None if self.best is None else self.best.tolist(),
            "names": {str(number): name for number, name in self.names.items()},
        }
