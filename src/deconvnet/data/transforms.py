"""From an image to a network's input: the central view, ten views or random crops, and the normalisation of pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.errors import UsageError

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

#: What is resized: the shorter side, or both sides, whatever the aspect ratio (timm's names).
CropMode = Literal["center", "squash"]
_CROP_MODES: tuple[str, ...] = get_args(CropMode)

#: Side, in pixels, of the central square of an image that networks are trained and evaluated on (section 3).
SQUARE_SIZE = 256

#: Views of 224×224 pixels that fit in a core's cache, as float32.
_VIEWS_IN_CACHE = 4

#: Ratio of the longer to the shorter side above which an image is not resized as a whole.
_MAX_ASPECT_RATIO = 100


def central_view(
    image: Image.Image, resize: int, crop: int, interpolation: Interpolation = "bilinear", crop_mode: CropMode = "center"
) -> Image.Image:
    """The central crop × crop pixels of an RGB image whose shorter side is resized to `resize` pixels; with the crop mode
    "squash" both sides are.
    """
    width, height = image.size
    shorter = min(width, height)
    resized = (int(resize * width / shorter), int(resize * height / shorter))  # as torchvision rounds
    if crop_mode == "squash":
        resized = (resize, resize)
    left, top = (round((side - crop) / 2) for side in resized)
    resampling = Image.Resampling[interpolation.upper()]
    if max(resized) <= _MAX_ASPECT_RATIO * resize:
        # As in torchvision. Resampling only the crop would round differently: by a grey level here and there; for bicubic,
        # which is clipped to 0…255 between two passes whose order Pillow chooses by the sizes, by up to ten.
        return image.resize(resized, resampling).crop((left, top, left + crop, top + crop))
    # An absurdly long image costs no more than others, as only its crop is resampled.
    x_scale, y_scale = width / resized[0], height / resized[1]
    box = (left * x_scale, top * y_scale, (left + crop) * x_scale, (top + crop) * y_scale)
    return image.resize((crop, crop), resampling, box=box)


def central_square(image: Image.Image) -> np.ndarray:
    """An RGB image as in section 3: shorter side resized to 256, central 256×256 pixels; (256, 256, 3) uint8."""
    return np.asarray(central_view(image, SQUARE_SIZE, SQUARE_SIZE))


def ten_views(squares: Tensor, crop: int) -> Iterator[Tensor]:
    """The four corners and the centre of squares (N, S, S, 3), then these mirrored; each is (N, crop, crop, 3)."""
    end = squares.shape[1] - crop
    middle = round(end / 2)
    corners_and_centre = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    views = [squares[:, top : top + crop, left : left + crop] for top, left in corners_and_centre]
    yield from views
    yield from (view.flip(2) for view in views)


def central_crop(squares: np.ndarray, crop: int) -> np.ndarray:
    """The centre of squares (N, S, S, 3): (N, crop, crop, 3)."""
    start = round((squares.shape[1] - crop) / 2)
    return squares[:, start : start + crop, start : start + crop]


def random_crops(squares: Sequence[np.ndarray] | np.ndarray, crop: int, random_bits: np.ndarray) -> np.ndarray:
    """A random crop of each of N squares (S, S, 3) uint8, mirrored with probability one half: (N, crop, crop, 3).

    `random_bits`, (N,) uint64, decide position and mirroring: equal bits give equal crops.
    """
    positions = np.uint64(len(squares[0]) - crop + 1)
    tops, lefts, mirrors = random_bits % positions, random_bits // positions % positions, random_bits >> np.uint64(63)
    crops = np.empty((len(squares), crop, crop, 3), dtype=np.uint8)
    for out, square, top, left, mirror in zip(crops, squares, tops.tolist(), lefts.tolist(), mirrors.tolist(), strict=True):
        out[:] = square[top : top + crop, left : left + crop]
        if mirror:
            out[:] = _mirror(out)
    return crops


def _mirror(view: np.ndarray) -> np.ndarray:
    """view[:, ::-1], by PyTorch, which is ten times as fast as NumPy's copy pixel by pixel."""
    return torch.flip(torch.from_numpy(view).movedim(-1, 0)[None], [-1])[0].movedim(0, -1).numpy()


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From an image to the input that a network's weights expect: the evaluation view (shorter side resized to `resize`,
    central `crop` × `crop`), then (pixels · scale/255 − mean) / std, always RGB. (Section 3: 256, 224 and a mean image.)
    `as_preprocessing` makes one of what torchvision, timm and transformers describe theirs by.

    Calling it with a PIL image returns the input. `per_channel((0.485, 0.456, 0.406))` makes a mean or std of three numbers.

    Raises `UsageError` for sizes that are not whole numbers or a `crop` above `resize`, tensors of other shapes, a mean
    outside of 0 to `scale`, a std that is not above 0, or constants meant for the other scale.
    """

    resize: int
    """The image's shorter side after resizing, in pixels."""
    crop: int
    """Side of the network's input, in pixels."""
    scale: float
    """The value of white before the mean is subtracted: 255 or 1."""
    mean: Tensor
    """(3, 1, 1), or an image (3, crop, crop); RGB, in the units of `scale`."""
    std: Tensor
    """(3, 1, 1), RGB, in the units of `scale`."""
    interpolation: Interpolation = "bilinear"
    """How the image is resized, with antialiasing, as by Pillow and torchvision's `antialias=True`."""
    crop_mode: CropMode = "center"
    """With "squash" both sides of the image are resized to `resize`, whatever its aspect ratio."""

    def __post_init__(self) -> None:
        """Refuse what would fail, or be wrong, at the first image."""
        sizes = (self.resize, self.crop)
        if not all(type(size) is int for size in sizes) or not 0 < self.crop <= self.resize:
            raise UsageError(
                f"A preprocessing has resize = {self.resize!r}, crop = {self.crop!r}: they are whole numbers of pixels, and "
                "crop is from 1 to resize."
            )
        if isinstance(self.scale, bool) or self.scale not in (1, 255):
            raise UsageError(f"A preprocessing has scale = {self.scale!r}: it is the value of white, 1 or 255.")
        for name, value, other_shape in (("mean", self.mean, (3, self.crop, self.crop)), ("std", self.std, ())):
            if not isinstance(value, Tensor) or tuple(value.shape) not in ((3, 1, 1), other_shape):
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
        if self.interpolation not in _INTERPOLATIONS:
            raise UsageError(
                f"A preprocessing's interpolation is one of {', '.join(_INTERPOLATIONS)}, not {self.interpolation!r}."
            )
        if self.crop_mode not in _CROP_MODES:
            raise UsageError(f"A preprocessing's crop_mode is one of {', '.join(_CROP_MODES)}, not {self.crop_mode!r}.")

    def with_views(self, purpose: str) -> Self:
        """Itself, which can show any view of an image; a `TransformPreprocessing` refuses, and says for what `purpose`."""
        return self

    def view(self, image: Image.Image) -> Image.Image:
        """The part of an image that the network sees, an RGB image of crop × crop pixels."""
        return self.central_view(image, self.resize, self.crop)

    def central_view(self, image: Image.Image, resize: int, size: int) -> Image.Image:
        """The central size × size pixels of an image that is resized to `resize` as this preprocessing does, RGB."""
        return central_view(image.convert("RGB"), resize, size, self.interpolation, self.crop_mode)

    def __call__(self, image: Image.Image) -> Tensor:
        """The network's input for an image, (3, crop, crop) float32."""
        return self.normalise(self.view_pixels(image)).contiguous()

    def view_pixels(self, image: Image.Image) -> Tensor:
        """The pixels of `view`, (crop, crop, 3) uint8, as `normalise` takes them."""
        return torch.from_numpy(np.array(self.view(image)))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Views (…, crop, crop, 3) uint8 as the network's input, (…, 3, crop, crop) float32, on their device.

        In memory channels stay last, as in the views.
        """
        mean, std = self._constants(pixels.device)
        result = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
        views, results = pixels.reshape(-1, *pixels.shape[-3:]), result.view(-1, *pixels.shape[-3:])
        # On a CPU a few at a time, which stay in the cache from one operation to the next.
        count = _VIEWS_IN_CACHE if pixels.device.type == "cpu" else max(1, len(views))
        for some, values in zip(torch.split(views, count), torch.split(results, count), strict=True):
            values.copy_(some)
            if self.scale != 255:
                values.mul_(self.scale / 255)
            values.sub_(mean).div_(std)
        return result.movedim(-1, -3)

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std of every pixel, (crop, crop, 3), kept on each device: without broadcasting, arithmetic is several
        times as fast.
        """
        if device not in self._constants_by_device:
            size = (3, self.crop, self.crop)
            mean, std = (value.expand(size).movedim(0, -1).contiguous().to(device) for value in (self.mean, self.std))
            self._constants_by_device[device] = mean, std
        return self._constants_by_device[device]

    @cached_property
    def _constants_by_device(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def denormalise(self, inputs: Tensor) -> np.ndarray:
        """The inverse of `normalise`: inputs (N, 3, crop, crop) as pixels (N, crop, crop, 3) uint8."""
        pixels = (inputs.cpu() * self.std + self.mean) * (255 / self.scale)
        return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def per_channel(values: Sequence[float]) -> Tensor:
    """Three numbers for RGB as a (3, 1, 1) float32 tensor, on the CPU even if the default device is another.

    Raises `RuntimeError` for more or fewer.
    """
    return torch.tensor(values, dtype=torch.float32, device="cpu").view(3, 1, 1)


def torchvision_preprocessing(
    resize: int = 256, crop: int = 224, interpolation: Interpolation = "bilinear"
) -> Preprocessing:
    """The preprocessing of most PyTorch networks: pixels from 0 to 1, normalised by ImageNet's mean and deviation.

    RGB means 0.485, 0.456, 0.406, deviations 0.229, 0.224, 0.225; `resize`, `crop` and `interpolation` as in
    `Preprocessing`. Raises `UsageError` for invalid ones.
    """
    mean, std = per_channel((0.485, 0.456, 0.406)), per_channel((0.229, 0.224, 0.225))
    return Preprocessing(resize, crop, 1.0, mean, std, interpolation)
