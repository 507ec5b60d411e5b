"""Ctrl-C and SIGTERM while training: put off until a step is done and saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
import torch.distributed as dist

from deconvnet.processes import Processes


@dataclass
class Stop:
    """Whether to stop."""

    processes: Processes
    number: int = 0
    """The signal that came, if one did."""

    def asked(self) -> bool:
        """Whether a signal has come, to any of the processes: all must ask at the same step."""
        if self.processes.count > 1:
            came = torch.tensor(self.number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(came, dist.ReduceOp.MAX)
            self.number = int(came)
        return self.number > 0


@contextmanager
def stop_asked(processes: Processes) -> Iterator[Stop]:
    """Collects signals; at the end one that came is raised again, for whoever handled it before."""
    stop = Stop(processes)

    def collect(number: int, frame: FrameType | None) -> None:
        if stop.number:  # the second of the kind means it
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        stop.number = number

    try:
        before = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where no signal arrives
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.number:
        signal.raise_signal(stop.number)
