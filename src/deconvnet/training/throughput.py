"""Throughput, and the fraction of time spent waiting for data."""

import time
from collections.abc import Iterable, Iterator

from deconvnet.training.data import TrainingBatch


class Throughput:
    """Measures images per second and the fraction of time spent waiting for batches, since it was created."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._wait_seconds, self._images = 0.0, 0

    def timed(self, batches: Iterable[TrainingBatch]) -> Iterator[TrainingBatch]:
        """The same batches; the time until each arrives is measured."""
        requested = time.monotonic()
        for batch in batches:
            self._wait_seconds += time.monotonic() - requested
            self._images += len(batch.targets)
            yield batch
            requested = time.monotonic()

    @property
    def images_per_second(self) -> float:
        """Images per second of this process."""
        return self._images / self._seconds

    @property
    def wait_fraction(self) -> float:
        """Fraction of the time spent waiting for batches, 0 to 1."""
        return self._wait_seconds / self._seconds

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)
