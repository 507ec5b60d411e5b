"""Ctrl-C and SIGTERM while training: put off until a step is done and saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError

#: Who sends a second signal means it. One that comes sooner after the first is the same, sent on by another program.
_AGAIN = 2.0


@dataclass
class Stop:
    """Whether to stop."""

    processes: Processes
    number: int = 0
    """The signal that came, if one did."""

    def asked(self) -> bool:
        """Whether a signal has come, to any of the processes: all must ask at the same step."""
        (came,) = self.processes.all_reduce_sum(self.number > 0)
        if came and not self.number:
            self.number = signal.SIGTERM
        return self.number > 0


@contextmanager
def stop_asked(processes: Processes) -> Iterator[Stop]:
    """Collects signals; at the end one that came is raised again, for whoever handled it before.

    Raises `DeconvnetError` if whoever that is lets the program go on.
    """
    stop, came = Stop(processes), 0.0

    def collect(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if stop.number and time.monotonic() - came > _AGAIN:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        elif not stop.number:
            stop.number, came = number, time.monotonic()

    before: dict[int, signal._HANDLER] = {}
    if threading.current_thread() is threading.main_thread():  # no other may handle signals
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) not in (signal.SIG_IGN, None):  # a command in the background ignores Ctrl-C
                before[each] = signal.signal(each, collect)
    try:
        yield stop
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
    if stop.number:
        signal.raise_signal(stop.number)
        raise DeconvnetError("Training was stopped.")
