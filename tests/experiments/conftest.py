"""What the commands of several experiments are tried on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deconvnet import progress

#: Two networks on 72×72 pixels, of different weights, with names of classes.
NETWORKS = '''"""Networks that are small enough for any test."""

import torch
from torch import nn

import deconvnet


def _network(name, seed):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3),
    ).eval()
    classes = [("ant", "ant"), ("bee", "bee"), ("cat", "cat")]
    preprocessing = deconvnet.torchvision_preprocessing(80, 72)
    names = ["conv1", "conv2", "fc3"]
    return deconvnet.Network(module, preprocessing, name=name, weights="random", layer_names=names, classes=classes)


def one():
    return _network("one", 0)


def other():
    return _network("other", 1)
'''


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    """A file of Python with two networks, `one` and `other`, to be named as FILE.py:one."""
    file = tmp_path / "networks.py"
    file.write_text(NETWORKS)
    return file


@pytest.fixture
def bars_that_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checks that there are progress bars, and that each ends at its total."""
    steps: dict[str, list[int]] = {}

    def log_progress(description: str, total: int, done: int) -> progress.Advance:
        steps[description] = [done, total]

        def advance(count: int, note: str = "", /) -> None:
            steps[description][0] += count

        return advance

    monkeypatch.setattr(progress, "_log_progress", log_progress)
    yield
    assert steps
    assert {description: done for description, (done, _) in steps.items()} == {
        description: total for description, (_, total) in steps.items()
    }
