"""Batches side by side, one on each core of a CPU.

PyTorch divides every operation among all cores, and at the end of each they wait for the slowest. A core that has a batch
of its own never waits, and while one decodes photos, the others compute.
"""

import copy
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock
from types import FunctionType
from typing import TypeVar

import torch
from torch import nn

from deconvnet.data.loader import prefetch
from deconvnet.models.network import Network
from deconvnet.tracing import evaluation_mode

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")

#: Batches at once, each of which takes memory.
_MOST = 8


def parallel_map(
    network: Network,
    read: Callable[[Item], Read],
    compute: Callable[[Network, Read], Result],
    items: Iterable[Item],
    threads: int | None = None,
) -> Generator[Result]:
    """`compute(network, read(item))` of each item, in order.

    On a CPU both are done by `threads` threads (default: as many as PyTorch uses, at most 8), which share PyTorch's own
    among them; each has a network of its own around the same weights. On another device threads only read ahead. Close the
    generator to stop.
    """
    if network.device.type != "cpu":
        threads = threads or min(_MOST, os.cpu_count() or 1)
        reading = prefetch(read, items, threads, threads)
        try:
            for ready in reading:
                yield compute(network, ready)
        finally:
            reading.close()
        return
    with _usual_threads() as usual, evaluation_mode(network.module):
        threads = threads or min(usual, _MOST)
        networks: SimpleQueue[Network] = SimpleQueue()
        replicas = _replicas(network, threads)
        for own in replicas:
            networks.put(own)

        def share() -> None:
            torch.set_num_threads(max(1, usual // len(replicas)))  # of the thread that calls it

        def work(item: Item) -> Result:
            ready = read(item)
            own = networks.get()
            try:
                return compute(own, ready)
            finally:
                networks.put(own)

        results = prefetch(work, items, threads, threads, share)
        share()  # what is done with results, beside the threads, is not to wait for them at every operation
        try:
            yield from results
        finally:
            results.close()


def _replicas(network: Network, count: int) -> list[Network]:
    """The network, and others around the same parameters, as a module may keep something from line to line of its forward.

    Of a module that cannot be copied, or whose copies would still call the original, there is only the one.
    """
    if count == 1 or _calls_others(network.module):
        return [network]
    network.layers  # found once, and not by several threads at a time  # noqa: B018
    shared = {id(tensor): tensor for tensor in network.module.parameters()}
    try:
        return [network, *(network.around(copy.deepcopy(network.module, dict(shared))) for _ in range(count - 1))]
    except Exception:  # whatever a module raises
        return [network]


def _calls_others(module: nn.Module) -> bool:
    """Whether it has hooks, or functions for attributes that may hold on to modules: those are not copied with it."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name.endswith("_hooks") and value:
                return True
            if isinstance(value, FunctionType) and (value.__closure__ or value.__name__ == "<lambda>" or name == "forward"):
                return True
    return False


_lock = Lock()
_inside = 0
_usual = 1


@contextmanager
def _usual_threads() -> Iterator[int]:
    """PyTorch's number of threads, which is this thread's again afterwards.

    To set it in one thread sets it for all threads that begin later: so the first run to begin says what it is.
    """
    global _inside, _usual
    with _lock:
        if not _inside:
            _usual = torch.get_num_threads()
        _inside += 1
    try:
        yield _usual
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_usual)
