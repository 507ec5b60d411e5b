"""States of a module and of the process that hold while a pass runs, and are put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, fixed batch statistics) within; every submodule's own mode again afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


_lock = Lock()
_inside = 0
_before: list[str] = []


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 on a GPU within: without this cuDNN may round convolutions' inputs to TF32, about 1e-3.

    The settings are the process's: the first thread that comes in changes them, the last that goes puts them back.
    """
    global _inside, _before
    settings: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    with _lock:
        if not _inside:
            _before = [setting.fp32_precision for setting in settings]
            for setting in settings:
                setting.fp32_precision = "ieee"
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for setting, precision in zip(settings, _before, strict=True):
                    setting.fp32_precision = precision


def bfloat16_is_slow(device: torch.device) -> bool:
    """Whether `device` is an x86 processor without instructions for bfloat16 (AVX-512): each number is converted there and
    back, which takes many times as long as float32.
    """
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")
