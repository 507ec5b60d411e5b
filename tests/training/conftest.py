"""A ZFNet that trains in seconds, and photos of three classes that it can tell apart."""

from pathlib import Path

import pytest

from deconvnet.models import ARCHITECTURES
from helpers.small_training import SMALL, write_photos


@pytest.fixture
def small_zfnet(monkeypatch):
    """`zfnet` is a small one for 32 pixels."""
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """22 photos to learn from and 9 to judge by."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder
