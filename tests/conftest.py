"""What all tests share: the folder of real data, if there is one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deconvnet import cli
from deconvnet.models import Network
from helpers.small_network import make_small_network, write_photo_folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with `imagenette`, `imagenet_sample`, `cats` and the AlexNet trunk; skips the test where it is absent."""
    folder = os.environ.get("DECONVNET_DATA")
    if not folder:
        pytest.skip("DECONVNET_DATA does not name the folder of real photos and weights")
    return Path(folder).resolve(strict=True)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def deconvnet_command(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; returns its exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deconvnet", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def small_network() -> Network:
    """Two convolutional layers and a fully connected one on 32×32 pixels; unit 4 of conv1 is dead."""
    return make_small_network()


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Seventeen small photos in three classes, two of them the same, with one broken photo and one text file."""
    return write_photo_folder(tmp_path / "photos")
