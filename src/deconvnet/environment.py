"""What a result was made with: versions of the software, and the machine."""

import ctypes
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch


def software_versions() -> dict[str, str]:
    """Python's, and of the packages that decide what a result is."""
    packages = ("deconvnet", "torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def hardware(device: str = "cpu") -> str:
    """The machine in words: the processor and how many of its cores may be used; of `device` "cuda" the GPU as well."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [f"{_processor()}, {cores} cores"]
    if device.startswith("cuda"):
        words.insert(0, torch.cuda.get_device_name(device))
    return "; ".join(words)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make glibc keep what is freed for the next tensor of that size, rather than give it back to the system.

    By default each large tensor gets fresh pages, which the system clears one by one: a third of the time of a training
    step on a CPU. Elsewhere than on Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**26)
