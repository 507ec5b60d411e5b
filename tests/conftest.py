"""What all tests share: the folder of real data, if there is one."""

import os
from pathlib import Path

import pytest
import torch


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
