"""The environment that results are made in: software versions, hardware, how freed memory is treated, shared settings."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TypeVar

import torch

Value = TypeVar("Value")


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, by name."""
    packages = ("deconvnet", "torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def hardware(device: str = "cpu") -> str:
    """The machine in words: the processor and how many cores this process may use, after the GPU if `device` is "cuda"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{_cpu_name()}, {cores} cores"
    return f"{torch.cuda.get_device_name(device)}; {cpu}" if device.startswith("cuda") else cpu


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


# From <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor of that size instead of returning it to the system.

    By default every large tensor gets fresh pages, which the kernel zeroes one by one: a third of the time of a training
    step on a CPU. Applies to the whole process; does nothing other than on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**26)


def shared_context(function: Callable[[], Iterator[Value]]) -> Callable[[], AbstractContextManager[Value]]:
    """Decorator for a context manager that changes a setting of the whole process, which threads may enter side by side.

    `function` is a generator, as for `contextlib.contextmanager`. The first thread to enter runs it up to its `yield`, the
    last to leave runs the rest; all of them get the value that it yielded.
    """
    manager = contextmanager(function)
    lock = Lock()
    users = 0
    context: AbstractContextManager[Value]
    value: Value

    @contextmanager
    @wraps(function)
    def shared() -> Iterator[Value]:
        nonlocal users, context, value
        with lock:
            if not users:
                context = manager()
                value = context.__enter__()
            users += 1
        try:
            yield value
        finally:
            with lock:
                users -= 1
                if not users:
                    context.__exit__(None, None, None)

    return shared
