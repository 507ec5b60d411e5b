"""Inputs that are tensors already: a `torch.utils.data.Dataset`, or anything that yields them, read by a `DataLoader`.

A map-style data set can be read again by index; an iterable is read once.
"""

import copy
import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deconvnet.data.input_set import InputSet
from deconvnet.data.loader import Batch
from deconvnet.errors import DeconvnetError, UsageError

#: Items by which a data set is known.
_HASHED_ITEMS = 16

_DIFFERS = (
    "is another one each time it is read: take random transforms (augmentation) out of the data set, as hits are read again"
)

#: What a `DataLoader` yields here: the index and the item of each row of a batch.
Items = list[tuple[int, Any]]


class _NamedItems(InputSet):
    """Inputs that are known by a name and their index."""

    name: str

    @property
    def title(self) -> str:
        return self.name

    def describe(self, index: int) -> str:
        return f"Item {index} of {self.name}"


class InputDataset(_NamedItems):
    """A map-style data set: `dataset[index]` is a tensor (C, H, W) as a network takes it, or a pair of it and a label.

    Labels are whole numbers or text. Wherever a set of images is asked for, a data set can be passed as it is, or wrapped in
    this to give it a name or a `DataLoader` of several processes. Resumed and merged work is known by the name, the length
    and sixteen items, which are read twice: an item that differs the second time is refused.

    Raises `UsageError` if it has no length or is empty, `DeconvnetError` for items that are no such tensors.
    """

    what_changed = "is another one than when it was mined: mine again, without random transforms (augmentation)"

    def __init__(self, dataset: "Dataset[Any] | Sequence[Any]", name: str = "", *, workers: int = 0) -> None:
        """`name` stands in figures and tables (default: the data set's class); `workers` are processes that read."""
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise UsageError(f"{type(dataset).__name__} has no items by index: pass it to mine() as an iterable.")
        count = len(dataset) if hasattr(dataset, "__len__") else 0
        if not count:
            raise UsageError(f"{type(dataset).__name__} has no length or no items: pass a map-style data set with some.")
        self.dataset, self.workers = dataset, workers
        self.name = name or type(dataset).__name__
        self.paths = tuple(map(str, range(count)))
        self.labels, self.classes = ("",) * len(self.paths), ()
        self._lock = threading.Lock()

    def with_labels(self, labels: Tensor, classes: Sequence[str]) -> Self:
        """A copy that knows its labels, which mining reads: their indices (items,) in `classes`, -1 for none."""
        labelled = copy.copy(self)
        labelled.labels, labelled.classes = _names(labels, classes), tuple(classes)
        return labelled

    @cached_property
    def digest(self) -> str:  # type: ignore[override]
        """SHA-256 over the name, the length and sixteen items, evenly spaced.

        Raises `DeconvnetError` if one of these is another one when it is read again.
        """
        count = min(_HASHED_ITEMS, len(self))
        indices = sorted({round(step * (len(self) - 1) / max(count - 1, 1)) for step in range(count)})
        first, second = ([self._hash(index) for index in indices] for _ in range(2))
        for index, one, other in zip(indices, first, second, strict=True):
            if one != other:
                raise DeconvnetError(f"{self.describe(index)} {_DIFFERS}.")
        return hashlib.sha256(f"{self.name}\0{len(self)}\0{' '.join(first)}".encode()).hexdigest()

    def _hash(self, index: int) -> str:
        tensor, label = self._read(index)
        content = tensor.contiguous().numpy().tobytes()
        return hashlib.sha256(f"{tuple(tensor.shape)}\0{label}\0".encode() + content).hexdigest()

    def _read(self, index: int) -> tuple[Tensor, str]:
        with self._lock:  # what a data set reads from may not be fit for several threads
            return parse_item(self, index, _Indexed(self.dataset)[index][1])

    def load(self, batches: Sequence[Sequence[int]]) -> Iterator[Items]:
        """The items of each of `batches`, lists of indices, by PyTorch's `DataLoader`."""
        random = torch.Generator()
        random.seed()  # the global generator stays as it is
        loader: DataLoader[Any] = DataLoader(
            _Indexed(self.dataset),
            batch_sampler=[list(batch) for batch in batches],
            collate_fn=list,
            num_workers=self.workers,
            generator=random,
        )
        return iter(loader)


class InputStream(_NamedItems):
    """An iterable of what a data set has as items, which is read once; its inputs are counted as they come."""

    def __init__(self, iterable: Iterable[Any], name: str = "") -> None:
        self.iterable, self.name = iterable, name or type(iterable).__name__
        self.paths, self.labels, self.classes = (), (), ()
        self.digest = ""

    def with_labels(self, labels: Tensor, classes: Sequence[str]) -> Self:
        """A copy that knows its length and labels, as `InputDataset.with_labels`."""
        labelled = copy.copy(self)
        labelled.paths = tuple(map(str, range(len(labels))))
        labelled.labels, labelled.classes = _names(labels, classes), tuple(classes)
        return labelled

    def load(self, batch_size: int) -> Iterator[Items]:
        """Its items, `batch_size` at a time, by PyTorch's `DataLoader` in this process."""
        return iter(DataLoader(_Counted(self.iterable), batch_size=batch_size, collate_fn=list, generator=torch.Generator()))


@dataclass(frozen=True)
class _Failure:
    """An error of a data set; a `DataLoader`'s processes would turn it into text."""

    reason: str


class _Indexed(Dataset[Any]):
    """The items of a data set, each with its index."""

    def __init__(self, dataset: "Dataset[Any] | Sequence[Any]") -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            return index, self.dataset[index]
        except Exception as error:  # a data set can raise anything
            return index, _Failure(f"{type(error).__name__}: {error}".rstrip("."))


class _Counted(IterableDataset[Any]):
    """The items of an iterable, each with its number."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.iterable = iterable

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return zip(itertools.count(), self.iterable, strict=False)


def make_batch(input_set: InputSet, items: Items, shape: tuple[int, ...], batch_size: int) -> Batch:
    """A batch of float32 inputs of `shape` (C, H, W), with labels.

    Raises `DeconvnetError`, which names the item, for one of another shape or one that is no input at all.
    """
    inputs, labels = torch.zeros(batch_size, *shape), []
    for row, (index, item) in enumerate(items):
        tensor, label = parse_item(input_set, index, item)
        if tuple(tensor.shape) != tuple(shape):
            hint = ": pass the data set itself, not a DataLoader" if tensor.dim() == len(shape) + 1 else ""
            name = input_set.describe(index)
            raise DeconvnetError(f"{name} has the shape {tuple(tensor.shape)}, and the network takes {shape}{hint}.")
        inputs[row] = tensor
        labels.append(label)
    indices = torch.tensor([index for index, _ in items], dtype=torch.int64)
    return Batch(inputs, torch.arange(len(items)), indices, labels=tuple(labels))


def parse_item(input_set: InputSet, index: int, item: Any) -> tuple[Tensor, str]:
    """The tensor of an item, float32 on the CPU, and its label as text. Raises `DeconvnetError` as `make_batch`."""
    name = input_set.describe(index)
    if isinstance(item, _Failure):
        raise DeconvnetError(f"{name} cannot be read ({item.reason}).")
    tensor, label = item, None
    if isinstance(item, tuple | list):
        if len(item) not in (1, 2):
            raise DeconvnetError(f"{name} has {len(item)} parts: an item is a tensor, or a pair of a tensor and a label.")
        tensor, label = item[0], item[1] if len(item) == 2 else None
    if not isinstance(tensor, Tensor):
        raise DeconvnetError(
            f"{name} is of type {type(tensor).__name__}: an item is a tensor (C, H, W), or a pair of a tensor and a label."
        )
    if not tensor.is_floating_point():
        raise DeconvnetError(
            f"{name} is of type {tensor.dtype}, but inputs are floating-point: apply the transform that the network was "
            "trained with."
        )
    tensor = tensor.detach().to("cpu", torch.float32)
    if not tensor.isfinite().all():
        raise DeconvnetError(f"{name} holds NaN or infinite values: mend or remove it.")
    return tensor, _label_text(name, label)


def _label_text(name: str, label: Any) -> str:
    if isinstance(label, Tensor) and label.numel() == 1:
        label = label.item()
    if label is None or isinstance(label, str):
        return label or ""
    if not isinstance(label, Integral):
        raise DeconvnetError(
            f"{name} has a label of type {type(label).__name__}: labels are whole numbers or text, so let the data set give "
            "the tensor alone."
        )
    return str(int(label))


def sort_classes(names: Iterable[str]) -> list[str]:
    """Labels in ascending order: whole numbers by value, then text."""
    return sorted(set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _names(labels: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if index < 0 else classes[index] for index in labels.tolist())
