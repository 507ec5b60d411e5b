"""Small-scale training for tests: a ZFNet with few maps for 32×32 pixels, images, and the files a run must reproduce."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import ARCHITECTURES, ZFNet, ZFNetOptions
from deconvnet.models.init import init_normal
from deconvnet.training import Recipe


class SmallZFNet(ZFNet):
    """ZFNet with few maps per layer."""

    def __init__(self, options: ZFNetOptions | None = None) -> None:
        super().__init__(replace(options or ZFNetOptions(), middle=(6, 6, 5), hidden=16))
        self.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 6, 3, stride=1)
        self.conv3 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc6 = nn.Linear(5, 16)
        init_normal(self)


SMALL = replace(ARCHITECTURES["zfnet"], build=SmallZFNet, preprocessing=torchvision_preprocessing(crop=32))

RECIPE = Recipe(
    epochs=3, batch_size=4, learning_rate=0.05, init="he", input_std=58.0, schedule="one-cycle", max_filter_rms=0.3
)


def write_photos(folder: Path) -> None:
    """Write images of 256×256 pixels, which need no resizing, into `train` and `val`, in three classes."""
    random = np.random.default_rng(0)
    for name, count in (("train", 22), ("val", 9)):
        for number in range(count):
            pixels = random.integers(0, 120, (256, 256, 3), dtype=np.uint8)
            pixels[:, :, number % 3] += 120
            file = folder / name / ("ant", "bee", "cat")[number % 3] / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, compress_level=1)


def results(run: Path) -> dict[str, bytes]:
    """The files, by name, that must not depend on where a run was interrupted."""
    files = [run / "log.csv", run / "steps.csv", run / "weights.safetensors", *run.glob("snapshots/*")]
    return {file.name: file.read_bytes() for file in files}
