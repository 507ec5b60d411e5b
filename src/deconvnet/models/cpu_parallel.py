"""One batch per CPU core, instead of one operation divided among all cores.

PyTorch divides every operation among all cores, and at the end of each they wait for the slowest. A core that has its own
batch never waits, and while one thread decodes images, the others compute.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

import torch

from deconvnet.data.loader import prefetch, reading_threads
from deconvnet.environment import shared_context
from deconvnet.models.module_copies import copy_module
from deconvnet.models.network import Network
from deconvnet.tracing import evaluation_mode

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")

#: Batches in progress on a CPU, at most: each takes the memory of a forward pass.
_MAX_THREADS = 8


def parallel_map(
    network: Network,
    read: Callable[[Item], Loaded],
    compute: Callable[[Network, Loaded], Result],
    items: Iterable[Item],
    threads: int | None = None,
    batch_size: int = 32,
) -> Generator[Result]:
    """`compute(network, read(item))` of each item, in order.

    On a CPU `threads` threads do both (default: as many as PyTorch uses, at most 8). They divide PyTorch's threads among
    them; each computes with its own replica of the network around the same weights. On other devices threads only read
    ahead (default: `reading_threads(batch_size)`, for items of `batch_size` images). Close the generator to stop early.
    """
    if network.device.type != "cpu":
        threads = threads or reading_threads(batch_size)
        inputs = prefetch(read, items, threads, threads)
        try:
            for loaded in inputs:
                yield compute(network, loaded)
        finally:
            inputs.close()
        return
    with _torch_threads() as torch_threads, evaluation_mode(network.module):
        threads = threads or min(torch_threads, _MAX_THREADS)
        replicas = _replicate(network, threads)
        idle: SimpleQueue[Network] = SimpleQueue()
        for replica in replicas:
            idle.put(replica)

        def limit_torch_threads() -> None:
            torch.set_num_threads(max(1, torch_threads // len(replicas)))  # of the calling thread

        def process(item: Item) -> Result:
            loaded = read(item)
            replica = idle.get()
            try:
                return compute(replica, loaded)
            finally:
                idle.put(replica)

        results = prefetch(process, items, threads, threads, limit_torch_threads)
        try:
            limit_torch_threads()  # the caller's operations on the results must not wait for busy cores either
            yield from results
        finally:
            results.close()
            torch.set_num_threads(torch_threads)


@shared_context
def _torch_threads() -> Iterator[int]:
    """PyTorch's number of threads, as it was before any run that is in progress limited it.

    `torch.set_num_threads` in one thread also decides for all threads that start later, so a run that starts while another
    is in progress cannot ask PyTorch.
    """
    yield torch.get_num_threads()


def _replicate(network: Network, count: int) -> list[Network]:
    """`network` and copies of it around the same parameters, as a module may keep state from line to line of its forward.

    Only `network`, if its module cannot be copied or its copies would still call the original.
    """
    if count == 1:
        return [network]
    network.layers  # traced once, and not by several threads at a time  # noqa: B018
    copies = [copy_module(network.module) for _ in range(count - 1)]
    return [network, *(network.with_module(module) for module in copies if module is not None)]
