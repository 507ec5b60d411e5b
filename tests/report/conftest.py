"""A report of two small networks, with everything but training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helpers.reporting import run_command_line, write_report_inputs


@pytest.fixture(scope="session")
def input_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_report_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def run_deconvnet() -> Callable[..., int]:
    return run_command_line


@pytest.fixture(scope="session")
def reproduce() -> Callable[..., int]:
    return partial(run_command_line, "reproduce")


@pytest.fixture(scope="session")
def arguments(input_folder) -> list[object]:
    """The arguments of `reproduce` for a report of everything but training."""
    file = input_folder / "networks.py"
    networks = ["--alexnet", f"{file}:one", "--zfnet", f"{file}:other"]
    return [input_folder / "photos", *networks, "--landmarks", input_folder / "faces" / "parts.json", "--device", "cpu"]


@pytest.fixture(scope="session")
def report(reproduce, arguments, tmp_path_factory) -> Path:
    """The folder of a finished report."""
    out = tmp_path_factory.mktemp("made") / "report"
    assert reproduce(*arguments, "--out", out) == 0
    return out
