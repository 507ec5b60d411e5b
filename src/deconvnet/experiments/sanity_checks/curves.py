"""Curves of the sanity checks: similarity as weights are randomised, class probability as the image is occluded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from deconvnet.experiments.sanity_checks.randomisation import ModuleGroup, cascading_randomisation
from deconvnet.formatting import json_numbers
from deconvnet.models import Network
from deconvnet.progress import Advance


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


def randomisation_curves(
    network: Network,
    groups: Sequence[ModuleGroup],
    draws: int,
    seed: int,
    compute_pictures: Callable[[Network], dict[str, list[Tensor]]],
    compare: Callable[[Tensor, Tensor], dict[str, float]],
    measures: Sequence[str],
    advance: Advance,
) -> dict[str, RandomisationCurve]:
    """Randomise a network from the top down, `draws` times, and compare its pictures with the original ones.

    `compute_pictures` returns the pictures of all images by kind, such as the rule set of projections; `compare`
    returns the similarity of two of them by `measures`. Returns a curve for each kind. `advance` is called with the number
    of images after each step.
    """
    originals = compute_pictures(network)
    count = len(next(iter(originals.values())))
    first_pictures = {kind: [pictures[0].numpy()] for kind, pictures in originals.items()}
    similarity = {kind: {measure: np.empty((count, draws, len(groups))) for measure in measures} for kind in originals}
    final_pictures: dict[str, list[list[Tensor]]] = {kind: [] for kind in originals}
    for draw in range(draws):
        randomised_pictures = originals
        for step, randomised in enumerate(cascading_randomisation(network, groups, seed, draw)):
            randomised_pictures = compute_pictures(randomised)
            for kind, pictures in randomised_pictures.items():
                for index, (original, picture) in enumerate(zip(originals[kind], pictures, strict=True)):
                    for measure, value in compare(original, picture).items():
                        similarity[kind][measure][index, draw, step] = value
                if draw == 0:
                    first_pictures[kind].append(pictures[0].numpy())
            advance(count)
        for kind, pictures in randomised_pictures.items():
            final_pictures[kind].append(pictures)
    return {
        kind: RandomisationCurve(
            list(groups),
            first_pictures[kind],
            similarity[kind],
            _unrelated_similarity(final_pictures[kind], compare, measures),
        )
        for kind in originals
    }


def _unrelated_similarity(
    pictures_by_draw: Sequence[Sequence[Tensor]],
    compare: Callable[[Tensor, Tensor], dict[str, float]],
    measures: Sequence[str],
) -> dict[str, np.ndarray]:
    """By measure (images, pairs of draws) the similarity of an image's pictures in any two draws."""
    similarities = [
        [compare(first, second) for first, second in combinations(pictures, 2)]
        for pictures in zip(*pictures_by_draw, strict=True)
    ]
    return {measure: np.array([[pair[measure] for pair in pairs] for pairs in similarities]) for measure in measures}


def nan_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is finite; NaN, without a warning, where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    sums = np.where(finite, values, 0.0).sum(axis=0)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)
