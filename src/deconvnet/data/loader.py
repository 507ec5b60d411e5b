"""Batches of photos as tensors, decoded ahead by threads, all of one size whatever is broken or left over."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from deconvnet.data.decode import UnreadableImage
from deconvnet.data.image_set import ImageSet


@dataclass(frozen=True)
class Batch:
    """Some photos ready for a network, on the CPU."""

    inputs: Tensor
    """(batch size, …): what `preprocess` made of each photo, such as (3, H, W); rows past the photos of the last batch, and
    those of unreadable photos, are zero."""
    rows: Tensor
    """(n,) which rows of `inputs` hold a photo."""
    images: Tensor
    """(n,) those photos' indices in the set."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Indices of the photos that could not be read, with the reason."""


def batches(
    image_set: ImageSet,
    preprocess: Callable[[Image.Image], Tensor],
    batch_size: int = 32,
    workers: int | None = None,
    indices: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Read photos in order (all, or those of `indices`) and yield them in batches that all have `batch_size` rows.

    One size for all batches means that a photo's values do not depend on how many photos stand beside it. Photos are
    decoded by `workers` threads (default: one per core, at most 8), never more than three batches ahead.
    """
    order = range(len(image_set)) if indices is None else indices

    def read(index: int) -> Tensor | str:
        return _read(image_set, preprocess, index)

    with closing(prefetch(read, order, workers or min(8, os.cpu_count() or 1), 3 * batch_size)) as results:
        for group in split_batches(order, batch_size):
            yield _assemble(list(islice(results, len(group))), group, batch_size)


def read_batch(
    image_set: ImageSet, preprocess: Callable[[Image.Image], Tensor], indices: Sequence[int], batch_size: int
) -> Batch:
    """The photos `indices`, at most `batch_size`, read in this thread as `batches` reads them."""
    return _assemble([_read(image_set, preprocess, index) for index in indices], indices, batch_size)


def split_batches(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """`indices` of photos, in batches of `size`; the last may be smaller."""
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def _read(image_set: ImageSet, preprocess: Callable[[Image.Image], Tensor], index: int) -> Tensor | str:
    try:
        return preprocess(image_set.read(index))
    except UnreadableImage as error:
        return str(error)


def _assemble(results: list[Tensor | str], indices: Sequence[int], batch_size: int) -> Batch:
    rows = [row for row, result in enumerate(results) if isinstance(result, Tensor)]
    good = [result for result in results if isinstance(result, Tensor)]
    shape = good[0].shape if good else torch.Size((3, 1, 1))
    inputs = torch.zeros(batch_size, *shape, dtype=good[0].dtype if good else None)
    for row, result in zip(rows, good, strict=True):
        inputs[row] = result
    skipped = {index: result for index, result in zip(indices, results, strict=True) if isinstance(result, str)}
    images = torch.tensor([indices[row] for row in rows], dtype=torch.int64)
    return Batch(inputs, torch.tensor(rows, dtype=torch.int64), images, skipped)


Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    make: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    most: int,
    begin: Callable[[], None] | None = None,
) -> Generator[Result]:
    """`make` of each item, in order, by so many threads; at most `most` are under way or wait while one is being used.

    Each thread calls `begin` first. What `make` raises comes in its turn. Close the generator, or what is under way goes on
    for a while after an error.
    """
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(make, item))
                if len(ahead) > most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
