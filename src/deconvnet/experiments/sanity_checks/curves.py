"""What is followed as a network is made random, and as a photo is covered."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvnet.experiments.sanity_checks.randomisation import Step


@dataclass(frozen=True)
class RandomisationCurve:
    """How like the original the pictures of one method stay as more and more of a network is random.

    By measure; NaN where one cannot be said.
    """

    steps: list[Step]
    """The submodules that are made random, from the top down."""
    pictures: list[np.ndarray]
    """Of the first photo: the original, then what it is after each step of the first draw."""
    values: dict[str, np.ndarray]
    """(photos, draws, steps)"""
    unrelated: dict[str, np.ndarray]
    """(photos, pairs of draws) the same between pictures of two networks that are random altogether, drawn apart."""

    def mean(self, measure: str) -> np.ndarray:
        """(steps,) over photos and draws."""
        return mean_of_known(self.values[measure].reshape(-1, self.values[measure].shape[-1]))

    def by_draw(self, measure: str) -> np.ndarray:
        """(draws, steps) over photos."""
        return mean_of_known(self.values[measure])

    def baseline(self, measure: str) -> float:
        """What unrelated networks have in common: over photos and pairs of draws."""
        return float(mean_of_known(self.unrelated[measure].reshape(-1, 1))[0])

    def unknown(self, measure: str) -> int:
        """How many of the values cannot be said."""
        return int((~np.isfinite(self.values[measure])).sum())

    def as_json(self) -> dict[str, Any]:
        measures = {
            measure: {
                "mean": _plain(self.mean(measure)),
                "each": _plain(values),
                "unrelated": _plain(self.unrelated[measure]),
            }
            for measure, values in self.values.items()
        }
        return {"randomised": self.steps, **measures}


@dataclass(frozen=True)
class DeletionCurve:
    """What becomes of the probability of a class as more and more of a photo is covered."""

    shares: list[float]
    """Of the squares covered, 0 to 1."""
    by_map: np.ndarray
    """(photos, shares) the most important squares first, as an occlusion map has them."""
    from_the_centre: np.ndarray
    """(photos, shares) those nearest to the centre first, where photographers put what matters."""
    at_random: np.ndarray
    """(photos, shares) in random order, a mean over some."""

    @property
    def orders(self) -> dict[str, np.ndarray]:
        return {"by_map": self.by_map, "from_the_centre": self.from_the_centre, "at_random": self.at_random}

    @property
    def areas(self) -> dict[str, float]:
        """Of each order, the mean probability over all shares: that by the map should be the lowest."""
        return {name: float(np.trapezoid(curves.mean(0), self.shares)) for name, curves in self.orders.items()}

    def as_json(self) -> dict[str, Any]:
        orders = {name: curves.tolist() for name, curves in self.orders.items()}
        return {"shares": self.shares, **orders, "areas": self.areas}


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of what is no NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)


def _plain(values: np.ndarray) -> Any:
    """Lists of numbers; null for NaN, which JSON does not have."""
    return np.where(np.isfinite(values), values, np.array(None, dtype=object)).tolist()
