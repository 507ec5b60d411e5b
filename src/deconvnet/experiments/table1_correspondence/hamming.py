"""Hamming distances between the signs of feature changes, and a permutation test of their mean (section 4.3)."""

import numpy as np
import torch
from torch import Tensor

#: Distances that are gathered at once: 8 MiB of them.
_VALUES_AT_ONCE = 1 << 20


def hamming_distances(signs: Tensor) -> np.ndarray:
    """(N, N) the fraction of components in which two rows of `signs` (N, components), each −1, 0 or 1, differ: 0 to 1."""
    equal = torch.zeros(len(signs), len(signs), dtype=torch.float64)
    for chunk in torch.split(signs, 1 << 16, dim=1):  # small enough for exact counts in float32
        for sign in (-1, 0, 1):
            mask = (chunk == sign).float()
            equal += mask @ mask.T
    return (1 - equal / signs.shape[1]).numpy()


def upper_triangle(distances: np.ndarray) -> np.ndarray:
    """The entries of a square matrix above its diagonal: the distances of all pairs of different images, each once."""
    values: np.ndarray = distances[np.triu_indices(len(distances), 1)]
    return values


def permutation_means(
    distances: np.ndarray, part: int, random_sets: range, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """(permutations,) the null distribution of a part's mean distance.

    In each permutation every image's mask is drawn from that of the part and its random ones. `distances` is (images, sets,
    images, sets), where a set has one mask of each image; `part` and `random_sets` are indices of sets.
    """
    num_images, num_sets = distances.shape[:2]
    candidates = np.array([part, *random_sets])
    matrix = distances.reshape(num_images * num_sets, num_images * num_sets)
    rows = np.arange(num_images) * num_sets + rng.choice(candidates, (permutations, num_images))
    first, second = np.triu_indices(num_images, 1)
    chunks = np.array_split(rows, 1 + permutations * len(first) // _VALUES_AT_ONCE)
    return np.concatenate([matrix[chunk[:, first], chunk[:, second]].mean(axis=1) for chunk in chunks])


def p_value(value: float, null: np.ndarray) -> float:
    """The two-sided p-value of `value` under samples `null` (N,) of the null distribution: 2 / (N + 1) to 1."""
    lower, higher = (null <= value + 1e-12).sum(), (null >= value - 1e-12).sum()
    return min(1.0, 2 * (1 + int(min(lower, higher))) / (1 + len(null)))
