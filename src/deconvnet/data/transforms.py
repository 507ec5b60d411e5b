"""The parts of a photo that a network is shown: the centre, ten views, or a random crop of the central square."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image

#: Rows and columns of the central square that networks are trained on and judged by (section 3).
SQUARE = 256

#: Photos that are longer than this many times their width, or the other way round, are absurdly long.
_LONGEST = 100


def central_view(
    photo: Image.Image, resize: int, crop: int, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
) -> Image.Image:
    """An RGB photo's shorter side resized to `resize` pixels, and of that the central crop × crop."""
    width, height = photo.size
    shorter = min(width, height)
    resized = (int(resize * width / shorter), int(resize * height / shorter))  # as torchvision rounds
    left, top = (round((side - crop) / 2) for side in resized)
    how = Image.Resampling[interpolation.upper()]
    if max(resized) <= _LONGEST * resize:
        # As torchvision does it: resampling the crop alone rounds otherwise, a grey level here and there. Bicubic overshoots
        # and is cut off at 0 and 255 between two passes, whose order Pillow chooses by the sizes: up to ten grey levels.
        return photo.resize(resized, how).crop((left, top, left + crop, top + crop))
    across, down = width / resized[0], height / resized[1]
    # Only the crop is resampled, so that an absurdly long photo costs no more than others.
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return photo.resize((crop, crop), how, box=box)


def square(photo: Image.Image) -> np.ndarray:
    """Section 3's 256×256 of an RGB photo: shorter side resized to 256, central part; (256, 256, 3) uint8."""
    return np.asarray(central_view(photo, SQUARE, SQUARE))


def ten_views(squares: np.ndarray, crop: int) -> np.ndarray:
    """The four corners and the centre of (N, S, S, 3), then the same mirrored: (N, 10, crop, crop, 3)."""
    far = squares.shape[1] - crop
    middle = round(far / 2)
    places = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
    views = np.stack([squares[:, top : top + crop, left : left + crop] for top, left in places], axis=1)
    return np.concatenate([views, views[:, :, :, ::-1]], axis=1)


def central_crop(squares: np.ndarray, crop: int) -> np.ndarray:
    """The centre of (N, S, S, 3): (N, crop, crop, 3)."""
    start = round((squares.shape[1] - crop) / 2)
    return squares[:, start : start + crop, start : start + crop]


def random_crops(squares: Sequence[np.ndarray] | np.ndarray, crop: int, numbers: np.ndarray) -> np.ndarray:
    """A crop of each of N squares (S, S, 3) uint8, each mirrored with a probability of one half, as (N, crop, crop, 3).

    `numbers` are N random ones of 64 bits (uint64), which decide where: equal numbers make equal crops.
    """
    places = np.uint64(len(squares[0]) - crop + 1)
    tops, lefts, mirrored = numbers % places, numbers // places % places, numbers >> np.uint64(63)
    crops = np.empty((len(squares), crop, crop, 3), dtype=np.uint8)
    for out, image, top, left, mirror in zip(crops, squares, tops.tolist(), lefts.tolist(), mirrored.tolist(), strict=True):
        out[:] = image[top : top + crop, left : left + crop]
        if mirror:
            out[:] = _mirrored(out)
    return crops


def _mirrored(view: np.ndarray) -> np.ndarray:
    """view[:, ::-1], which NumPy copies pixel by pixel, and PyTorch ten times as fast."""
    return torch.flip(torch.from_numpy(view).movedim(-1, 0)[None], [-1])[0].movedim(0, -1).numpy()
