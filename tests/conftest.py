"""What all tests share: the folder of real data, if there is one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import cli
from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network


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
    module = nn.Sequential(
        nn.Conv2d(3, 5, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.LocalResponseNorm(3, alpha=0.5),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(5, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 64, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).eval()
    with torch.no_grad():
        module[0].weight[4] = 0
        module[0].bias[4] = -1
    names = ["conv1", "conv2", "fc3"]
    return Network(module, torchvision_preprocessing(32, 32), name="small", weights="random", layer_names=names)


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Seventeen small photos in three classes, two of them the same, with one broken photo and one text file."""
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for number in range(17):
        label = folder / ("ant", "bee", "cat")[number % 3]
        label.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((40 + number, 35), Image.Resampling.BICUBIC)
        photo.save(label / f"{number:02d}.png")
    (folder / "cat" / "twin.png").write_bytes((folder / "ant" / "03.png").read_bytes())
    (folder / "bee" / "broken.jpg").write_bytes(b"\xff\xd8\xff not much of a photo")
    (folder / "notes.txt").write_text("not a photo")
    return folder
