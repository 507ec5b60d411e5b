"""The environment that results are made in: software versions, hardware, how freed memory is treated, shared settings."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import TypeVar

import torch

from deconvnet.version import find_version

Value = TypeVar("Value")


def software_versions() -> dict[str, str]:
    """Versions of Python, this package and the installed packages that results depend on, by name."""
    versions = {"python": platform.python_version(), "deconvnet": find_version()}
    for package in ("torch", "torchvision", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def hardware(device: str = "cpu") -> str:
    """The machine in words: the processor and how many cores this process may use, after the GPU if `device` is "cuda"."""
    cpu = f"{_cpu_name()}, {_usable_cores()} cores"
    return f"{torch.cuda.get_device_name(device)}; {cpu}" if device.startswith("cuda") else cpu


def core_count() -> int:
    """How many cores this process may keep busy: those it may use, divided by the number of processes that `torchrun` has
    started on this machine; at least 1.
    """
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, _usable_cores() // max(1, int(processes) if processes.isdecimal() else 1))


def _usable_cores() -> int:
    """The cores that the system lets this process use."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_format(device: torch.device) -> torch.memory_format:
    """The memory layout of maps that is used on a device: channels last on a CPU, where convolutions are faster in it."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


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
        mallopt(_M_TRIM_THRESHOLD, -1)  # never: a step of ZFNet frees more than the 2 GB that fit in the argument
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
