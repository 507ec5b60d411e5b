"""Curves of the sanity checks: similarity as weights are randomised, class probability as the image is occluded."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvnet.formatting import json_numbers

#: Paths of the submodules that are randomised in the same step of a cascade, the one that runs last first.
ModuleGroup = list[str]


@dataclass(frozen=True)
class RandomisationCurve:
    """Similarity of one kind of picture to that of the original network, as more and more of its weights are randomised.

    Similarities are by name of their measure; NaN where undefined.
    """

    groups: list[ModuleGroup]
    """The submodules that are randomised in each step, from the top down."""
    pictures: list[np.ndarray]
    """Of the first image: the original picture, then the one after each step of the first draw."""
    similarity: dict[str, np.ndarray]
    """(images, draws, steps)"""
    unrelated: dict[str, np.ndarray]
    """(images, pairs of draws) the similarity of two networks with all weights randomised, drawn independently."""

    def mean(self, measure: str) -> np.ndarray:
        """(steps,) the mean over images and draws."""
        similarity = self.similarity[measure]
        return nan_mean(similarity.reshape(-1, similarity.shape[-1]))

    def mean_by_draw(self, measure: str) -> np.ndarray:
        """(draws, steps) the mean over images."""
        return nan_mean(self.similarity[measure])

    def unrelated_mean(self, measure: str) -> float:
        """The similarity of unrelated networks, a baseline: the mean over images and pairs of draws."""
        return float(nan_mean(self.unrelated[measure].reshape(-1, 1))[0])

    def num_undefined(self, measure: str) -> int:
        """The number of similarities that are NaN."""
        return int((~np.isfinite(self.similarity[measure])).sum())

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures; null for NaN."""
        measures = {
            measure: {
                "mean": json_numbers(self.mean(measure)),
                "each": json_numbers(similarity),
                "unrelated": json_numbers(self.unrelated[measure]),
            }
            for measure, similarity in self.similarity.items()
        }
        return {"randomised": self.groups, **measures}


@dataclass(frozen=True)
class DeletionCurve:
    """The probability of a class as a growing fraction of the image is occluded, for three orders of its squares."""

    fractions: list[float]
    """Of the squares that are occluded, 0 to 1."""
    by_map: np.ndarray
    """(images, fractions) in the order of an occlusion map, the most important squares first."""
    from_the_centre: np.ndarray
    """(images, fractions) those nearest to the centre first, where photographers put what matters."""
    at_random: np.ndarray
    """(images, fractions) the mean over random orders."""

    @property
    def orders(self) -> dict[str, np.ndarray]:
        return {"by_map": self.by_map, "from_the_centre": self.from_the_centre, "at_random": self.at_random}

    @property
    def areas(self) -> dict[str, float]:
        """For each order the area under its curve, the mean probability: "by_map" should have the lowest."""
        return {name: float(np.trapezoid(curves.mean(0), self.fractions)) for name, curves in self.orders.items()}

    def as_json(self) -> dict[str, Any]:
        orders = {name: curves.tolist() for name, curves in self.orders.items()}
        return {"shares": self.fractions, **orders, "areas": self.areas}


def nan_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is finite; NaN, without a warning, where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    sums = np.where(finite, values, 0.0).sum(axis=0)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)
