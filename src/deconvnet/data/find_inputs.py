"""From what a user passes to the set of inputs that it means: files of images, a data set of tensors, or an iterable."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from deconvnet.data.input_dataset import InputDataset, InputStream
from deconvnet.data.input_set import InputSet
from deconvnet.data.sources.folders import find_images
from deconvnet.errors import UsageError

#: A folder of images, files, or a set; a map-style data set; or an iterable of its items.
Inputs = Path | str | Iterable[Any] | InputSet | Dataset[Any]


def find_inputs(images: Inputs) -> InputSet:
    """`find_images` of paths; an `InputDataset` of what has items by index; an `InputStream` of other iterables.

    An `InputSet` is returned as it is. Raises `UsageError` for a `DataLoader` and for what is none of these, and what
    `find_images` and `InputDataset` raise.
    """
    if isinstance(images, InputSet):
        return images
    if isinstance(images, str | os.PathLike):
        return find_images(Path(images))
    if isinstance(images, DataLoader):
        raise UsageError("A DataLoader yields batches: pass its data set, loader.dataset.")
    if not isinstance(images, Iterable) and not hasattr(images, "__getitem__"):
        raise UsageError(f"Inputs are a folder, a list of files or a data set of tensors, not {type(images).__name__}.")
    if isinstance(images, IterableDataset) or not hasattr(images, "__getitem__"):
        return _from_iterable(images)
    if isinstance(images, list | tuple) and (not images or isinstance(images[0], str | os.PathLike)):
        return find_images(images)
    return InputDataset(images)  # type: ignore[arg-type]


def find_items(images: Inputs) -> InputSet:
    """As `find_inputs`, for what reads inputs again. Raises `UsageError` for an iterable, which can be read only once."""
    input_set = find_inputs(images)
    if isinstance(input_set, InputStream):
        raise UsageError(
            f"{input_set.title} can be read only once, but strong activations are read again: pass a data set with items by "
            "index, such as a list."
        )
    return input_set


def _from_iterable(iterable: Iterable[Any]) -> InputSet:
    iterator = iter(iterable)
    first = list(itertools.islice(iterator, 1))
    items = itertools.chain(first, iterator)
    if not first or isinstance(first[0], str | os.PathLike):
        return find_images(items)
    return InputStream(items, type(iterable).__name__)
