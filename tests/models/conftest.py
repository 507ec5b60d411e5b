"""Small networks and the files that are made of them."""

import pytest
import torch
from PIL import Image

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network, ZFNet, ZFNetOptions

#: A description, as in docs/file-formats.md, of weights that take RGB at 224×224.
DESCRIPTION = """\
resize = 256
crop = 224
channels = "RGB"
scale = 1
mean = [0.5, 0.4, 0.3]
"""


@pytest.fixture
def described(tmp_path):
    """A TOML file with a sound description."""
    file = tmp_path / "described.toml"
    file.write_text(DESCRIPTION)
    return file


@pytest.fixture
def photo():
    """A noisy photo of no square size."""
    pixels = torch.randint(0, 256, (240, 260, 3), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="session")
def zfnet():
    """A ZFNet with few fully connected units and ten classes of its own, weights drawn from seed 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = ZFNet(ZFNetOptions(classes=10, hidden=16)).eval()
    classes = [(f"n{number:08}", f"thing {number}") for number in range(10)]
    return Network(module, torchvision_preprocessing(), name="zfnet", weights="ten things", classes=classes)


@pytest.fixture(scope="session")
def trunk():
    """A ZFNet without fully connected layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        module = ZFNet(ZFNetOptions(classes=0)).eval()
    return Network(module, torchvision_preprocessing(), name="zfnet", weights="a trunk", classifies=False)
