"""What a network's weights expect of a photo: its size and its normalisation.

Always RGB. Where a file's weights expect BGR, the loader turns the first layer's filters round (`catalogue.py`), so that no
other part of the program has to know.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The evaluation view (shorter side to `resize`, central `crop` × `crop`), then (pixels · scale/255 − mean) / std.

    `per_channel((0.485, 0.456, 0.406))` makes a mean or std of three numbers.
    """

    resize: int
    crop: int
    scale: float
    """The value of white before the mean is subtracted: 255 or 1."""
    mean: Tensor
    """(3, 1, 1), or an image (3, crop, crop); RGB, in the units of `scale`."""
    std: Tensor
    """(3, 1, 1), RGB, in the units of `scale`."""

    def view(self, photo: Image.Image) -> Image.Image:
        """The part of a photo that the network is shown, as a picture of crop × crop pixels."""
        photo = photo.convert("RGB")
        width, height = photo.size
        shorter = min(width, height)
        resized = (int(self.resize * width / shorter), int(self.resize * height / shorter))  # as torchvision rounds
        left, top = (round((side - self.crop) / 2) for side in resized)
        across, down = width / resized[0], height / resized[1]
        # Only the crop is resampled, so that an absurdly long photo costs no more than others.
        box = (left * across, top * down, (left + self.crop) * across, (top + self.crop) * down)
        return photo.resize((self.crop, self.crop), Image.Resampling.BILINEAR, box=box)

    def __call__(self, photo: Image.Image) -> Tensor:
        """A photo as the network's input, (3, crop, crop) float32."""
        pixels = torch.from_numpy(np.array(self.view(photo), dtype=np.float32)).permute(2, 0, 1)
        return (pixels * (self.scale / 255) - self.mean) / self.std

    def pixels(self, inputs: Tensor) -> np.ndarray:
        """The inverse of `__call__`: inputs (N, 3, crop, crop) as pictures (N, crop, crop, 3) uint8."""
        pixels = (inputs.cpu() * self.std + self.mean) * (255 / self.scale)
        return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def per_channel(values: Sequence[float]) -> Tensor:
    """Three numbers as a (3, 1, 1) tensor."""
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def torchvision_preprocessing(resize: int = 256, crop: int = 224) -> Preprocessing:
    """What torchvision's classification models were trained with."""
    return Preprocessing(resize, crop, 1.0, per_channel((0.485, 0.456, 0.406)), per_channel((0.229, 0.224, 0.225)))
