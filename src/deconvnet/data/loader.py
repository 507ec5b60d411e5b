"""Batches of images as tensors, decoded ahead by threads, all of one size even if images are missing."""

import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from deconvnet.data.decode import UnreadableImage
from deconvnet.data.image_set import ImageSet
from deconvnet.environment import core_count

#: Images that are read ahead at most, unless batches are so large that fewer than `_MIN_THREADS` could be; as pixels of a
#: network's input they take 300 MB.
_MAX_IMAGES_AHEAD = 2048

_MIN_THREADS = 8


@dataclass(frozen=True)
class Batch:
    """Images or other inputs, on the CPU."""

    inputs: Tensor
    """(batch size, …): what `preprocess` returned for each image, such as (3, H, W). Rows of unreadable images, and those
    past the end of the last batch, are zero."""
    rows: Tensor
    """(n,) int64, the rows of `inputs` that hold an image."""
    indices: Tensor
    """(n,) int64, those images' indices in the set."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Index → reason of each image that could not be read."""
    labels: tuple[str, ...] = ()
    """(n,) the labels of items of a data set; empty for images, whose folders say them."""

    def checksums(self) -> Tensor:
        """(n,) int64: the CRC-32 of each image's bytes in `inputs`, by which a changed image is told."""
        return torch.tensor(
            [zlib.crc32(self.inputs[row].contiguous().numpy().data) for row in self.rows.tolist()], dtype=torch.int64
        )

    def pinned_for(self, device: torch.device) -> Self:
        """The same batch, in memory from which `upload` copies to `device` without waiting: on CUDA pinned memory.

        Call it in the thread that reads; pinning takes a copy.
        """
        return replace(self, inputs=self.inputs.pin_memory()) if device.type == "cuda" else self


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; a copy to CUDA is only queued if `tensor` is in pinned memory (`Batch.pinned_for`)."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def reading_threads(batch_size: int) -> int:
    """How many threads read, each a batch of `batch_size` images ahead, where nobody says how many: one per core, as far as
    memory allows.
    """
    return min(core_count(), max(_MIN_THREADS, _MAX_IMAGES_AHEAD // batch_size))


def batches(
    image_set: ImageSet,
    preprocess: Callable[[Image.Image], Tensor],
    batch_size: int = 32,
    workers: int | None = None,
    indices: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Generator[Batch]:
    """Read images in order (all, or those of `indices`) and yield them in batches that all have `batch_size` rows.

    As all batches have one size, an image's results do not depend on how many images share its batch. `workers` threads
    (default: one per core, fewer for large batches) each read a batch ahead; a single batch is read by one of them. Batches
    are on the CPU, in pinned memory if `device`, where they will be needed, is CUDA.
    """
    order = range(len(image_set)) if indices is None else indices
    threads = workers or reading_threads(batch_size)
    destination = torch.device(device)

    def read(batch_indices: Sequence[int]) -> Batch:
        return read_batch(image_set, preprocess, batch_indices, batch_size).pinned_for(destination)

    return prefetch(read, split_batches(order, batch_size), threads, threads)


def read_batch(
    image_set: ImageSet, preprocess: Callable[[Image.Image], Tensor], indices: Sequence[int], batch_size: int
) -> Batch:
    """One batch of the images `indices`, at most `batch_size`, read in the calling thread."""
    inputs = torch.zeros(batch_size, 3, 1, 1)
    rows: list[int] = []
    skipped: dict[int, str] = {}
    for row, index in enumerate(indices):
        try:
            tensor = preprocess(image_set.read(index))
        except UnreadableImage as error:
            skipped[index] = str(error)
            continue
        if not rows:
            inputs = torch.zeros(batch_size, *tensor.shape, dtype=tensor.dtype)
        inputs[row] = tensor
        rows.append(row)
    read_indices = torch.tensor([indices[row] for row in rows], dtype=torch.int64)
    return Batch(inputs, torch.tensor(rows, dtype=torch.int64), read_indices, skipped)


def split_batches(indices: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """`indices` in consecutive slices of `batch_size`; the last may be shorter."""
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    max_ahead: int,
    initializer: Callable[[], None] | None = None,
) -> Generator[Result]:
    """Yield `function(item)` of each item, in order, computed ahead by `threads` threads.

    At most `max_ahead` results are computed or waiting while the caller uses one. Each thread first calls `initializer`. An
    exception of `function` is raised when its result is due. Close the generator (`contextlib.closing`), or after an error
    the calls in progress outlive it.
    """
    with ThreadPoolExecutor(threads, initializer=initializer) as pool:
        futures: deque[Future[Result]] = deque()
        try:
            for item in items:
                futures.append(pool.submit(function, item))
                if len(futures) > max_ahead:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
