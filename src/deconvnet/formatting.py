"""Text and numbers for people and files: printable names, shortened names, numbers that JSON can hold."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

ModuleClass = TypeVar("ModuleClass", bound=type)

# Control characters, line and paragraph separators, bidirectional marks, bytes that are not UTF-8 (as surrogates).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` on one line and safe to print: what a terminal might act on is escaped as in Python (`\n`, `\x1b`, `\u202e`).

    File names may hold anything but a slash and a zero. A byte of one that is not UTF-8 becomes that byte (`\xff`).
    """
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's "surrogateescape" of a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


def shorten(text: str, max_length: int, keep: Literal["start", "end"] = "start") -> str:
    """`text`, or its start (or end) and an ellipsis "…" if it is longer than `max_length` characters with it."""
    if len(text) <= max_length:
        return text
    return f"{text[: max_length - 1]}…" if keep == "start" else f"…{text[len(text) - max_length + 1 :]}"


def json_number(value: float, digits: int | None = None) -> float | None:
    """`value` as a float for JSON, rounded to `digits` significant digits if given; None for NaN and infinities."""
    if not math.isfinite(value):
        return None
    return float(value) if digits is None else float(f"{value:.{digits}g}")


def json_numbers(values: Any, digits: int | None = None) -> list[Any]:
    """A tensor, array or sequence of numbers, nested or not, as (nested) lists of `json_number`."""
    items = values.tolist() if hasattr(values, "tolist") else values  # a test for Tensor would import torch
    return [json_number(item, digits) if isinstance(item, int | float) else json_numbers(item, digits) for item in items]


def field_size(size: Sequence[int], status: str = "exact") -> str:
    """The size of a receptive field, (height, width) in pixels, with what is known of it: "7×7", "at most 37×37", "whole
    image". `status` is a value of `tracing.FieldStatus`.
    """
    if status == "upper bound":
        return f"at most {size[0]}×{size[1]}"
    return f"{size[0]}×{size[1]}" if status == "exact" else status


def field_seen(size: Sequence[int], status: str = "exact") -> str:
    """What an activation with that receptive field sees, in words: "7×7 pixels", "the whole image"."""
    if status == "depends on the data":
        return "the whole image, or what the data in it decide"
    text = field_size(size, status)
    return f"the {text}" if text == "whole image" else f"{text} pixels"


def repr_name(name: str) -> Callable[[ModuleClass], ModuleClass]:
    """Decorator of an `nn.Module`: PyTorch prints the class, but not its subclasses, under this name.

    The printed network is part of what identifies a search (`mining.MiningKey`), so renaming a class must not change it.
    """

    def decorate(cls: ModuleClass) -> ModuleClass:
        cls._get_name = lambda self: name if type(self) is cls else type(self).__name__  # type: ignore[attr-defined]
        return cls

    return decorate
