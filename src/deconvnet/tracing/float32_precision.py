"""How exactly convolutions and matrix products of float32 numbers are computed, a setting of the whole process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Lock
from typing import Any, Literal, cast

import torch

Precision = Literal["ieee", "tf32"]

#: The older flags of each precision: whether cuDNN may use TF32, and how exact products have to be.
_FLAGS: dict[Precision, tuple[bool, str]] = {"ieee": (False, "highest"), "tf32": (True, "high")}

_lock = Lock()
#: How many contexts are open, in all threads, by precision.
_open: Counter[Precision] = Counter()
#: The caller's settings and flags, while any is open.
_callers: tuple[list[str], tuple[bool, str] | None]


@contextmanager
def float32_precision(precision: Precision) -> Iterator[None]:
    """Within, float32 is computed in full ("ieee"), or GPUs may round what they multiply to TF32 (errors of about 1e-3).

    Threads may enter side by side. While any of them asks for full float32, all of them have it. The last to leave restores
    the caller's settings.
    """
    _count(precision, 1)
    try:
        yield
    finally:
        _count(precision, -1)


def exact_float32() -> AbstractContextManager[None]:
    """Full float32 within: without this cuDNN may round the inputs of convolutions to TF32, and what the program allows
    elsewhere would hold, on CPUs too.
    """
    return float32_precision("ieee")


def bfloat16_is_slow(device: torch.device) -> bool:
    """Whether `device` is an x86 processor without instructions for bfloat16 (AVX-512): each number is converted there and
    back, which takes many times as long as float32.
    """
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")


def _count(precision: Precision, change: int) -> None:
    global _callers
    with _lock:
        before = _wanted()
        _open[precision] += change
        wanted = _wanted()
        if before is None:
            _callers = _read()
        if wanted is None:
            _write(*_callers)
        elif wanted != before:
            _write([wanted] * len(_settings()), _FLAGS[wanted])


def _wanted() -> Precision | None:
    return "ieee" if _open["ieee"] else "tf32" if _open["tf32"] else None


# PyTorch has older flags and newer settings, and where the two disagree, reading a flag raises, which other code does. So
# both are changed, and put back.


def _settings() -> tuple[Any, ...]:
    cudnn, mkldnn = cast(Any, torch.backends.cudnn), cast(Any, torch.backends.mkldnn)
    return (
        *(torch.backends, cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul),
        *(mkldnn.conv, mkldnn.rnn, mkldnn.matmul),
    )


def _read() -> tuple[list[str], tuple[bool, str] | None]:
    """The newer settings and the older flags; None for flags that disagree with the settings already."""
    flags = None
    with suppress(RuntimeError):
        flags = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    return [setting.fp32_precision for setting in _settings()], flags


def _write(precisions: list[str], flags: tuple[bool, str] | None) -> None:
    if flags is not None:
        torch.backends.cudnn.allow_tf32 = flags[0]
        torch.set_float32_matmul_precision(flags[1])
    for setting, precision in zip(_settings(), precisions, strict=True):
        setting.fp32_precision = precision
