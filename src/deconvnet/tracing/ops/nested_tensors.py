"""The tensors and numbers among the nested arguments and results of torch calls."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

#: A function with its arguments.
Call = tuple[Callable[..., Any], Args, Kwargs]


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Nested arguments with `function` applied to every tensor, in the order of `iter_tensors`."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, function) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
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


def iter_numbers(value: Any) -> Iterator[float]:
    """The numbers among nested arguments, in order."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from iter_numbers(item)
    elif isinstance(value, dict):
        yield from iter_numbers(tuple(value.values()))


def argument(args: Args, kwargs: Kwargs, index: int, *names: str, default: Any = None) -> Any:
    """An argument by its place or by one of its names."""
    return args[index] if len(args) > index else next((kwargs[name] for name in names if name in kwargs), default)
