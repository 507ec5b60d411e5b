"""Photos or weights that changed after they were mined are noticed before an atlas shows what is no longer true."""

import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.atlas.build import build_atlas
from deconvnet.data import find_images
from deconvnet.errors import DeconvnetError
from deconvnet.mining import mine_part
from helpers import killing


@pytest.fixture
def photos(tmp_path):
    killing.write_photos(tmp_path / "photos")
    for photo in (tmp_path / "photos").rglob("*.png"):
        photo.write_bytes(photo.read_bytes() + bytes(100))  # room for a change
    return tmp_path / "photos"


@pytest.fixture
def network():
    return killing.network()


@pytest.fixture
def mined(network, photos, tmp_path):
    """The file with the state of mining, and the state."""
    file = tmp_path / "all.safetensors"
    return file, mine_part(network, find_images(photos), file, (1, 1))


def change_a_pixel(file):
    """Give one pixel of a photo the next grey level; the file keeps its size in bytes."""
    size = file.stat().st_size
    with Image.open(file) as photo:
        pixels = np.array(photo)
    pixels[len(pixels) // 2, pixels.shape[1] // 2] ^= 1
    Image.fromarray(pixels).save(file, optimize=True)
    file.write_bytes(file.read_bytes().ljust(size, bytes(1)))
    assert file.stat().st_size == size


def test_a_pixel(network, photos, mined, tmp_path):
    state_file, state = mined
    photo = find_images(photos).file(int(state.topk["conv1"].images[0, 0]))
    change_a_pixel(photo)
    with pytest.raises(DeconvnetError, match=f"{photo} has other pixels than when it was mined, so mine again") as caught:
        build_atlas(network, photos, tmp_path / "atlas", parts=[state_file])
    note = f"Remove {tmp_path / '.atlas.partial'}, where the outdated work lies, and give the command again."
    assert caught.value.__notes__ == [note]
    assert not (tmp_path / "atlas").exists()


def test_a_weight(network, photos, mined, tmp_path):
    other = network.with_module(copy.deepcopy(network.module))
    with torch.no_grad():
        next(other.module.parameters()).view(-1)[0].mul_(1 + 1e-6)
    with pytest.raises(DeconvnetError, match="another network"):
        build_atlas(other, photos, tmp_path / "atlas", parts=[mined[0]])


def test_a_file(network, photos, mined, tmp_path):
    file = find_images(photos).file(0)
    shutil.copy(find_images(photos).file(1), file)
    file.write_bytes(file.read_bytes() + b"0")  # another size
    with pytest.raises(DeconvnetError, match="other photos"):
        build_atlas(network, photos, tmp_path / "atlas", parts=[mined[0]])
