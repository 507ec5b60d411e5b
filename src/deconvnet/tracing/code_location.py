"""Where in a user's module something happens, in words: the submodule and the line of code."""

import os
import traceback
from collections.abc import Sequence
from functools import cache
from types import FrameType

import torch
from torch import nn

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TORCH = os.path.dirname(os.path.abspath(torch.__file__))


def line_of_code(frame: FrameType | None) -> str:
    """The innermost line outside of PyTorch that is running in a module, from `frame` outwards: " (net.py, line 12)".

    Empty if there is none before the code of this package, which has called the module.
    """
    while frame is not None and not _is_in(frame.f_code.co_filename, _OURS):
        if not _is_in(frame.f_code.co_filename, _TORCH):
            return f" ({os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""


def describe_failure(module: nn.Module, error: BaseException) -> str:
    """What a module raised, and where: "in layer1.0 (net.py, line 12; ValueError: too small)"."""
    names = {id(submodule): name for name, submodule in module.named_modules()}
    path, line, is_running = "", "", False
    for frame, number in traceback.walk_tb(error.__traceback__):
        owner, file = id(frame.f_locals.get("self")), frame.f_code.co_filename
        is_running = is_running or owner in names
        path = names.get(owner, path)
        if is_running and not _is_in(file, _OURS, _TORCH):
            line = f"{os.path.basename(file)}, line {number}; "
    return f"{f'in {path} ' if path else ''}({line}{describe_error(error)})"


def first_of(items: Sequence[str]) -> str:
    """The first of several things of a kind, and how many more there are."""
    return f"{items[0]} and {len(items) - 1} more like it" if len(items) > 1 else items[0]


def describe_error(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    message = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@cache
def _is_in(file: str, *folders: str) -> bool:
    return any(file.startswith(folder + os.sep) for folder in folders)
