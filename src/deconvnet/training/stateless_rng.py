"""All randomness of training, computed from numbers alone: no generator state is stored.

So neither the number of workers nor a restart changes it, and a position in a run is two numbers, epoch and step.
"""

import numpy as np


def _mix(value: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): hash 64-bit numbers so that each output bit depends on all input
    bits.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def random_uint64(*coordinates: int | np.ndarray) -> np.ndarray:
    """Independent random numbers (uint64), one for each combination of coordinates, which are broadcast."""
    mixed = np.zeros((1,), np.uint64)
    with np.errstate(over="ignore"):  # products are meant modulo 2⁶⁴
        for coordinate in coordinates:
            as_array = np.atleast_1d(np.asarray(coordinate)).astype(np.int64).astype(np.uint64)
            mixed = _mix(mixed + as_array + np.uint64(0x9E3779B97F4A7C15))
    return mixed


def init_seed(seed: int) -> int:
    """The generator seed for the initial weights."""
    return int(random_uint64(seed, 0)[0] >> np.uint64(1))


def epoch_order(seed: int, epoch: int, image_count: int) -> np.ndarray:
    """The order in which an epoch shows its images: a permutation of 0 … image_count − 1, drawn from (seed, epoch)."""
    return np.argsort(random_uint64(seed, 1, epoch, np.arange(image_count)), kind="stable")


def crop_numbers(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """For each image index, a number (uint64) that decides its crop and mirroring, drawn from (seed, epoch, index)."""
    return random_uint64(seed, 2, epoch, indices)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """The generator seed for dropout, drawn from (seed, step, rank)."""
    return int(random_uint64(seed, 3, step, rank)[0] >> np.uint64(1))
