"""What modules of this project are called where PyTorch prints a network.

The text that PyTorch prints is part of what tells searches apart (`mining.Key`), so it must not change with the name of a
class.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Class = TypeVar("Class", bound=type[nn.Module])


def printed_as(name: str) -> Callable[[Class], Class]:
    """Let PyTorch print modules of the decorated class, but not of its subclasses, under this name."""

    def named(cls: Class) -> Class:
        cls._get_name = lambda self: name if type(self) is cls else type(self).__name__  # type: ignore[method-assign]
        return cls

    return named
