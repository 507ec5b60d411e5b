"""Arguments and results of torch calls, and the tensors among them."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested arguments with every tensor changed, in the order of `iter_tensors`."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, change) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    return value


def iter_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors among nested arguments or results, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from iter_tensors(item)
    elif isinstance(value, dict):
        yield from iter_tensors(tuple(value.values()))
