"""What is drawn at random while training, from numbers alone: no state of a generator is kept anywhere.

So neither the number of workers nor a restart changes it, and a position in a training run is two numbers, epoch and step.
"""

import numpy as np


def _mix(value: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): one 64-bit number to another, each bit depending on all."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def numbers(*coordinates: int | np.ndarray) -> np.ndarray:
    """Independent numbers of 64 bits (uint64), one for each combination of coordinates, which are broadcast."""
    mixed = np.zeros((1,), np.uint64)
    with np.errstate(over="ignore"):  # products are meant modulo 2⁶⁴
        for coordinate in coordinates:
            as_array = np.atleast_1d(np.asarray(coordinate)).astype(np.int64).astype(np.uint64)
            mixed = _mix(mixed + as_array + np.uint64(0x9E3779B97F4A7C15))
    return mixed


def initial_seed(seed: int) -> int:
    """The seed of the generator that first weights are drawn with."""
    return int(numbers(seed, 0)[0] >> np.uint64(1))


def epoch_order(seed: int, epoch: int, images: int) -> np.ndarray:
    """The order in which an epoch shows its images: a permutation of 0 … images − 1, drawn from (seed, epoch)."""
    return np.argsort(numbers(seed, 1, epoch, np.arange(images)), kind="stable")


def crop_numbers(seed: int, epoch: int, images: np.ndarray) -> np.ndarray:
    """What decides where each image is cropped and whether it is mirrored, drawn from (seed, epoch, image)."""
    return numbers(seed, 2, epoch, images)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """The seed of dropout's generator, drawn from (seed, step, rank)."""
    return int(numbers(seed, 3, step, rank)[0] >> np.uint64(1))
