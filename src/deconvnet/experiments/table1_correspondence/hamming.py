"""How unlike changes of features are in sign, and how often chance makes them so alike (section 4.3)."""

import numpy as np
import torch
from torch import Tensor


def distances(signs: Tensor) -> np.ndarray:
    """The share of components in which rows of signs (N, components), −1, 0 or 1, differ: (N, N)."""
    same = torch.zeros(len(signs), len(signs), dtype=torch.float64)
    for part in torch.split(signs, 1 << 16, dim=1):  # in float32 counts are exact
        for value in (-1, 0, 1):
            where = (part == value).float()
            same += where @ where.T
    return (1 - same / signs.shape[1]).numpy()


def of_pairs(apart: np.ndarray) -> np.ndarray:
    """The distances (photos, photos) of all pairs of different photos, each once."""
    values: np.ndarray = apart[np.triu_indices(len(apart), 1)]
    return values


def permuted(apart: np.ndarray, part: int, random_sets: range, permutations: int, random: np.random.Generator) -> np.ndarray:
    """Mean distances (permutations,) of sets that take from each photo at random its masks of a part or of one random place.

    `apart` is (photos, sets, photos, sets).
    """
    image_set, sets = apart.shape[:2]
    candidates = np.array([part, *random_sets])
    flat = apart.reshape(image_set * sets, image_set * sets)
    rows = np.arange(image_set) * sets + random.choice(candidates, (permutations, image_set))
    return np.array([of_pairs(flat[np.ix_(row, row)]).mean() for row in rows])


def p_value(value: float, null: np.ndarray) -> float:
    """How often chance is as far out as a value, to the side on which that is rarer, twice."""
    lower, higher = (null <= value + 1e-12).sum(), (null >= value - 1e-12).sum()
    return min(1.0, 2 * (1 + int(min(lower, higher))) / (1 + len(null)))
