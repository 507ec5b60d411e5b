"""All processes agree when to stop."""

import signal
from collections.abc import Callable

from deconvnet.distributed import Processes
from deconvnet.training.signals import StopRequest


class Others(Processes):
    """Stands for processes of which `received` have received a signal; calls `meanwhile` while it exchanges that."""

    received = 0
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
        type(self).meanwhile()
        return tuple(value + self.received for value in values)


def test_a_signal_that_comes_meanwhile_counts_from_the_next_exchange(monkeypatch):
    """If it counted at once, this process would stop, and the others wait for it for ever."""
    stop = StopRequest(Others())
    monkeypatch.setattr(Others, "meanwhile", staticmethod(lambda: setattr(stop, "signal_number", signal.SIGINT)))
    assert not stop.is_pending()
    assert stop.is_pending()
    assert stop.signal_number == signal.SIGINT


def test_a_signal_of_another_process_counts_too(monkeypatch):
    stop = StopRequest(Others())
    assert not stop.is_pending()
    monkeypatch.setattr(Others, "received", 1)
    assert stop.is_pending()
    assert stop.signal_number == signal.SIGTERM
