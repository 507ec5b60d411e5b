"""Inputs of every command that takes a device, and the device `emu` for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import emulated_accelerator
from helpers.reporting import run_command_line, write_report_inputs

#: Rounding of a device, as `emulated` takes it: none, a CPU's and a rough GPU's.
NOISES = [0.0, 3e-7, 3e-6]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not emulated_accelerator.IS_AVAILABLE:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="this version of PyTorch has no hook for devices written in Python"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `networks.py`, `photos/val/` and `faces/`."""
    folder = tmp_path_factory.mktemp("inputs")
    write_report_inputs(folder)
    return folder


@pytest.fixture(params=NOISES, ids=lambda noise: f"noise {noise:g}")
def noise(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture
def run_on_emu(noise: float) -> Callable[..., Any]:
    """Run a command with `--device emu`; returns how often it waited for the device, by operation."""

    def run(*words: object) -> Any:
        with emulated_accelerator.emulated(noise) as waits:
            assert run_command_line(*words, "--device", "emu") == 0
        return waits

    return run
