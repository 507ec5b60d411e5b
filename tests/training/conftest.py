"""A ZFNet that trains in seconds, and images of three classes that differ in colour."""

from pathlib import Path

import pytest

from deconvnet.models import ARCHITECTURES
from helpers.small_training import SMALL, write_photos


@pytest.fixture
def small_zfnet(monkeypatch):
    """Replace `zfnet` by a small one for 32×32 pixels."""
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """22 training and 9 validation images."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder
