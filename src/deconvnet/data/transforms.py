"""The parts of a photo that a network is shown: the centre, ten views, or a random crop of the central square."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.errors import UsageError

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


Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What a network's weights expect of a photo: the evaluation view (shorter side to `resize`, central `crop` × `crop`),
    then (pixels · scale/255 − mean) / std, always RGB. (Section 3 has 256, 224, and subtracts a mean image.)

    `per_channel((0.485, 0.456, 0.406))` makes a mean or std of three numbers. Called with a PIL picture, it gives the input.

    Raises `UsageError` for what cannot be: sizes that are no whole numbers or with `crop` above `resize`, tensors of other
    shapes, a mean beyond 0 to `scale`, a std that is not above 0, constants that are meant for the other scale.
    """

    resize: int
    """The photo's shorter side, in pixels."""
    crop: int
    """The side of the central square, in pixels: what the network takes."""
    scale: float
    """The value of white before the mean is subtracted: 255 or 1."""
    mean: Tensor
    """(3, 1, 1), or an image (3, crop, crop); RGB, in the units of `scale`."""
    std: Tensor
    """(3, 1, 1), RGB, in the units of `scale`."""
    interpolation: Interpolation = "bilinear"
    """How the photo is resized; either way smoothed where it shrinks, as Pillow and torchvision's `antialias=True` do."""

    def __post_init__(self) -> None:
        """Refuse what would fail, or be wrong, at the first photo."""
        sizes = (self.resize, self.crop)
        if not all(type(size) is int for size in sizes) or not 0 < self.crop <= self.resize:
            raise UsageError(
                f"A preprocessing has resize = {self.resize!r}, crop = {self.crop!r}: they are whole numbers of pixels, and "
                "crop is from 1 to resize."
            )
        if isinstance(self.scale, bool) or self.scale not in (1, 255):
            raise UsageError(f"A preprocessing has scale = {self.scale!r}: it is the value of white, 1 or 255.")
        for name, value, whole in (("mean", self.mean, (3, self.crop, self.crop)), ("std", self.std, ())):
            if not isinstance(value, Tensor) or tuple(value.shape) not in ((3, 1, 1), whole):
                raise UsageError(f"The {name} of a preprocessing is a tensor: per_channel((0.5, 0.5, 0.5)) makes one.")
        low, high = self.mean.min().item(), self.mean.max().item()
        if not 0 <= low <= high <= self.scale:
            raise UsageError(
                f"A preprocessing has scale = {self.scale:g} and a mean of {low:g} to {high:g}: a mean is from 0 (black) to "
                "scale (white)."
            )
        if not (self.std.isfinite() & (self.std > 0)).all():
            raise UsageError(f"A preprocessing has std = {self.std.flatten().tolist()}: it is finite and above 0.")
        if self.scale == 255 and high <= 1 and (self.std < 1).all():
            raise UsageError(
                "A preprocessing has scale = 255, but a mean and a std that are meant for scale = 1: multiply them by 255, "
                "or change the scale."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f'A preprocessing\'s interpolation is "bilinear" or "bicubic", not {self.interpolation!r}.')

    def view(self, photo: Image.Image) -> Image.Image:
        """The part of a photo that the network is shown, as a picture of crop × crop pixels."""
        return central_view(photo.convert("RGB"), self.resize, self.crop, self.interpolation)

    def __call__(self, photo: Image.Image) -> Tensor:
        """A photo as the network's input, (3, crop, crop) float32."""
        return self.normalise(self.viewed(photo)).contiguous()

    def viewed(self, photo: Image.Image) -> Tensor:
        """The pixels of `view`, (crop, crop, 3) uint8, which `normalise` takes."""
        return torch.from_numpy(np.array(self.view(photo)))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Views (…, crop, crop, 3) uint8 as the network's input, (…, 3, crop, crop) float32, on their device.

        In memory channels stay last, as in the views.
        """
        mean, std = (whole.to(pixels.device) for whole in self._whole)
        return pixels.float().mul_(self.scale / 255).sub_(mean).div_(std).movedim(-1, -3)

    @cached_property
    def _whole(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every pixel, (crop, crop, 3): with shapes alike arithmetic is several times as fast."""
        size = (3, self.crop, self.crop)
        return tuple(value.expand(size).movedim(0, -1).contiguous() for value in (self.mean, self.std))  # type: ignore[return-value]

    def pixels(self, inputs: Tensor) -> np.ndarray:
        """The inverse of `__call__`: inputs (N, 3, crop, crop) as pictures (N, crop, crop, 3) uint8."""
        pixels = (inputs.cpu() * self.std + self.mean) * (255 / self.scale)
        return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def per_channel(values: Sequence[float]) -> Tensor:
    """Three numbers for RGB as a (3, 1, 1) float32 tensor on the CPU, where photos are, whatever the default device.

    Raises `RuntimeError` for more or fewer.
    """
    return torch.tensor(values, dtype=torch.float32, device="cpu").view(3, 1, 1)


def torchvision_preprocessing(
    resize: int = 256, crop: int = 224, interpolation: Interpolation = "bilinear"
) -> Preprocessing:
    """What most networks of PyTorch are trained with: pixels from 0 to 1, normalised by ImageNet's mean and deviation.

    RGB means 0.485, 0.456, 0.406 and deviations 0.229, 0.224, 0.225; the photo's shorter side becomes `resize` pixels, and
    the central `crop` × `crop` are kept. Raises `UsageError` for sizes or an `interpolation` that cannot be.
    """
    mean, std = per_channel((0.485, 0.456, 0.406)), per_channel((0.229, 0.224, 0.225))
    return Preprocessing(resize, crop, 1.0, mean, std, interpolation)
