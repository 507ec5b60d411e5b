"""How time is spent."""

import time
from collections.abc import Iterable, Iterator

from deconvnet.training.data import TrainingBatch


class Throughput:
    """Photos per second, and the share of the time in which the data were waited for."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._waiting, self._photos = 0.0, 0

    def timed(self, batches: Iterable[TrainingBatch]) -> Iterator[TrainingBatch]:
        """The same batches, each waited for by the clock."""
        asked = time.monotonic()
        for examples in batches:
            self._waiting += time.monotonic() - asked
            self._photos += len(examples.targets)
            yield examples
            asked = time.monotonic()

    @property
    def photos_per_second(self) -> float:
        """Of this process."""
        return self._photos / self._seconds

    @property
    def waiting(self) -> float:
        """The share of the time, 0 to 1."""
        return self._waiting / self._seconds

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)
