"""A report of two small networks, of everything but training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helpers.reporting import type_command, write_materials


@pytest.fixture(scope="session")
def materials(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("materials")
    write_materials(folder)
    return folder


@pytest.fixture(scope="session")
def typed() -> Callable[..., int]:
    return type_command


@pytest.fixture(scope="session")
def reproduce() -> Callable[..., int]:
    return partial(type_command, "reproduce")


@pytest.fixture(scope="session")
def asked(materials) -> list[object]:
    """The words of a report of everything but training."""
    networks = ["--alexnet", f"{materials / 'networks.py'}:one", "--zfnet", f"{materials / 'networks.py'}:other"]
    return [materials / "photos", *networks, "--landmarks", materials / "faces" / "parts.json", "--device", "cpu"]


@pytest.fixture(scope="session")
def report(reproduce, asked, tmp_path_factory) -> Path:
    """The folder of a finished report."""
    out = tmp_path_factory.mktemp("made") / "report"
    assert reproduce(*asked, "--out", out) == 0
    return out
