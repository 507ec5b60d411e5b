"""Names of files as people are shown them: a name can hold anything but a slash and a zero."""

import re
from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)

# Control characters, line and paragraph ends, marks that turn the direction of writing, bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` on one line that does nothing to a terminal: what would is written as in Python (`\n`, `\x1b`, `\u202e`).

    A byte of a name that is not UTF-8 is written as that byte (`\xff`).
    """
    return _UNPRINTABLE.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps such a byte
        return f"\\x{number - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


def printed_as(name: str) -> Callable[[Class], Class]:
    """Let PyTorch print modules of the decorated class, but not of its subclasses, under this name.

    The printed text is part of what tells searches apart (`mining.Key`), so it must not change with the name of a class.
    """

    def named(cls: Class) -> Class:
        cls._get_name = lambda self: name if type(self) is cls else type(self).__name__  # type: ignore[attr-defined]
        return cls

    return named
