"""Batches side by side, one on each core of a CPU.

PyTorch divides every operation among all cores, and at the end of each they wait for the slowest. A core that has a batch
of its own never waits, and while one decodes photos, the others compute.
"""

import copy
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

import torch

from deconvnet.images.ahead import made_ahead
from deconvnet.networks.network import Network

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")

#: Batches at once, each of which takes memory.
_MOST = 8


def on_each_core(
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
        reading = made_ahead(read, items, threads or 4, threads or 4)
        try:
            for ready in reading:
                yield compute(network, ready)
        finally:
            reading.close()
        return
    usual = torch.get_num_threads()
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

    results = made_ahead(work, items, threads, threads, share)
    share()  # what is done with results, beside the threads, is not to wait for them at every operation
    try:
        yield from results
    finally:
        results.close()
        torch.set_num_threads(usual)


def _replicas(network: Network, count: int) -> list[Network]:
    """The network, and others around the same tensors, as a module may keep something from line to line of its forward.

    Of a module that cannot be copied there is only the one.
    """
    if count == 1:
        return [network]
    network.layers  # found once, and not by several threads at a time  # noqa: B018
    shared = {id(tensor): tensor for tensor in [*network.module.parameters(), *network.module.buffers()]}
    try:
        return [network, *(network.around(copy.deepcopy(network.module, dict(shared))) for _ in range(count - 1))]
    except Exception:  # whatever a module raises
        return [network]
