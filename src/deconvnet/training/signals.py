"""Ctrl-C and SIGTERM while training: deferred until the current step is done and saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError

#: A second signal stops the process at once, unless it comes within so many seconds: then it is the first one, relayed by
#: another program.
_RELAY_SECONDS = 2.0


@dataclass
class StopRequest:
    """Whether a signal asks the run to stop. Processes agree on it whenever they add up values: `all_reduce_sum`."""

    processes: Processes
    signal_number: int = 0
    """The signal received, 0 if none."""
    is_agreed: bool = False
    """Whether any process had received a signal when it joined the last exchange; the same in all of them."""

    def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
        """`Processes.all_reduce_sum`, which exchanges the signals too. Collective: all must call it after the same step.

        A signal that arrives later counts from the next exchange. If it counted at once, this process would stop while the
        others wait for it.
        """
        *sums, received = self.processes.all_reduce_sum(*values, self.signal_number > 0)
        self.is_agreed = received > 0
        if self.is_agreed and not self.signal_number:
            self.signal_number = signal.SIGTERM
        return tuple(sums)


@contextmanager
def defer_signals(processes: Processes) -> Iterator[StopRequest]:
    """Record signals in a `StopRequest`; at the end, raise a recorded one again for the handler that was installed before.

    Raises `DeconvnetError` if that handler lets the program continue.
    """
    stop, received_at = StopRequest(processes), 0.0

    def record(number: int, frame: FrameType | None) -> None:
        nonlocal received_at
        if stop.signal_number and time.monotonic() - received_at > _RELAY_SECONDS:
            signal.signal(number, previous_handlers[number])
            signal.raise_signal(number)
        elif not stop.signal_number:
            stop.signal_number, received_at = number, time.monotonic()

    previous_handlers: dict[int, signal._HANDLER] = {}
    if threading.current_thread() is threading.main_thread():  # Python allows handlers in the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # background jobs ignore Ctrl-C
                previous_handlers[number] = signal.signal(number, record)
    try:
        yield stop
    finally:
        for restored, handler in previous_handlers.items():
            signal.signal(restored, handler)
    if stop.signal_number:
        signal.raise_signal(stop.signal_number)
        raise DeconvnetError("Training was stopped.")
