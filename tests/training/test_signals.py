"""All processes agree when to stop."""

import signal
from collections.abc import Callable
from dataclasses import replace

from deconvnet.data import find_images
from deconvnet.distributed import Processes
from deconvnet.training import train
from deconvnet.training.signals import StopRequest
from helpers.small_training import RECIPE


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
    assert stop.all_reduce_sum(2.5, 3.0) == (2.5, 3.0)
    assert not stop.is_agreed
    assert stop.all_reduce_sum() == ()
    assert stop.is_agreed
    assert stop.signal_number == signal.SIGINT


def test_a_signal_between_two_exchanges_counts_from_the_second():
    stop = StopRequest(Others())
    stop.all_reduce_sum()
    stop.signal_number = signal.SIGINT
    assert not stop.is_agreed
    stop.all_reduce_sum()
    assert stop.is_agreed


def test_a_signal_of_another_process_counts_too(monkeypatch):
    stop = StopRequest(Others())
    stop.all_reduce_sum()
    assert not stop.is_agreed
    monkeypatch.setattr(Others, "received", 1)
    stop.all_reduce_sum()
    assert stop.is_agreed
    assert stop.signal_number == signal.SIGTERM


def test_a_step_is_one_exchange(small_zfnet, photos, tmp_path, monkeypatch):
    """Of loss, errors and the signals; the others are at the start, after the last checkpoint and in the validation."""
    exchanged = []

    def all_reduce_sum(self, *values):
        exchanged.append(len(values))
        return values

    monkeypatch.setattr(Processes, "all_reduce_sum", all_reduce_sum)
    train("zfnet", photos, tmp_path / "run", replace(RECIPE, epochs=1), device="cpu")
    steps = len(find_images(photos / "train")) // RECIPE.batch_size
    assert exchanged == [1, *[3] * steps, 1, 2]
