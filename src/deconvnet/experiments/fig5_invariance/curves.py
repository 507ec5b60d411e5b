"""Curves of Fig. 5: distances between features, and class probabilities, at each value of a transformation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.experiments.fig5_invariance.transforms import Transformation


@dataclass(frozen=True)
class Curves:
    """The effect of one transformation on each image."""

    transformation: Transformation
    distances: Tensor
    """(2, images, values) from the untransformed image's features at the first and at the last hidden layer, 0 to √2."""
    probability: Tensor | None
    """(images, values) of the image's class; None for a trunk."""
    views: list[np.ndarray]
    """The views of the first images that the figure shows, (shown values, crop, crop, 3) uint8 each."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the views."""
        return {
            "values": list(self.transformation.values),
            "first": self.distances[0].tolist(),
            "last": self.distances[1].tolist(),
            "probability": None if self.probability is None else self.probability.tolist(),
        }


def relative_distances(transformation: Transformation, distances: Tensor) -> tuple[float, float] | None:
    """The mean distances at the smallest step and at half of the largest step, as fractions of the largest mean distance.

    `distances` are (images, values). The second fraction is ½ if the distance grows in proportion to the step. Rotations by
    more than 180° count as rotations the other way. None if nothing changes.
    """
    steps = torch.tensor(transformation.values, dtype=torch.float64) - transformation.identity
    if transformation.name == "rotation":
        steps = torch.where(steps > 180, steps - 360, steps)
    steps, mean = steps.abs(), distances.mean(dim=0)
    if not mean.any():
        return None

    def fraction_at(step: float) -> float:
        difference = (steps - step).abs()
        return float(mean[difference <= difference.min() + 1e-9].mean() / mean.max())

    return fraction_at(float(steps[steps > 0].min())), fraction_at(float(steps.max()) / 2)
