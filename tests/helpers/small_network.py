"""A network and a folder of photos that are small enough for any test."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network


def make_small_network() -> Network:
    """Two convolutional layers and a fully connected one on 32×32 pixels, always the same; unit 4 of conv1 is dead."""
    torch.manual_seed(0)
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


def write_photo_folder(folder: Path) -> Path:
    """Seventeen small photos in three classes, two of them the same, with one broken photo and one text file."""
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
