"""Inputs of every command that takes a device, and the device `emu` for it; test_gpu.py has `cuda` in its place."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deconvnet.models import ARCHITECTURES
from deconvnet.training import train
from helpers import emulated_accelerator
from helpers.reporting import run_command_line, write_report_inputs
from helpers.small_training import RECIPE, SMALL, write_photos

#: Rounding of a device, as `emulated` takes it: none, a CPU's and a rough GPU's.
NOISES = [0.0, 3e-7, 3e-6]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not emulated_accelerator.IS_AVAILABLE:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents and not item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no hook for devices written in Python in this PyTorch, or a GPU"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `networks.py`, `photos/val/` and `faces/`."""
    folder = tmp_path_factory.mktemp("inputs")
    write_report_inputs(folder)
    return folder


@pytest.fixture(params=NOISES, ids=lambda noise: f"noise {noise:g}")
def noise(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos/`, `photos/train/` and `photos/val/`, and `run/`, a small ZFNet's training of two epochs."""
    folder = tmp_path_factory.mktemp("small")
    write_photos(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "zfnet", SMALL)
        train("zfnet", folder / "photos", folder / "run", replace(RECIPE, epochs=2), device="cpu")
    return folder


@pytest.fixture
def run_on_cpu() -> Callable[..., None]:
    """Run a command with `--device cpu`."""

    def run(*words: object) -> None:
        assert run_command_line(*words, "--device", "cpu") == 0

    return run


@pytest.fixture
def device() -> str:
    """The name of the device."""
    return "emu"


@pytest.fixture
def on_device(noise: float) -> Callable[[], AbstractContextManager[Counter[str]]]:
    """A context in which the device is there; yields how often the program waited for it, by operation."""
    return partial(emulated_accelerator.emulated, noise)


@pytest.fixture
def run_on_device(device: str, on_device: Callable[[], AbstractContextManager[Counter[str]]]) -> Callable[..., Any]:
    """Run a command on the device; returns how often it waited for the device, by operation."""

    def run(*words: object) -> Any:
        with on_device() as waits:
            assert run_command_line(*words, "--device", device) == 0
        return waits

    return run
