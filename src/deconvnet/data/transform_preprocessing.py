"""`TransformPreprocessing`: the user's own transform, run as it is, with what is needed to draw its outputs."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data.transforms import Preprocessing, per_channel
from deconvnet.errors import DeconvnetError, UsageError

#: From an RGB image to a network's input, (3, H, W).
Transform = Callable[[Image.Image], Any]

#: Widths and heights of two probe pictures: neither is square, one is larger and one is smaller than usual inputs.
PROBE_SIZES = ((613, 437), (97, 150))

#: How far a stated mean or std may lie from what the transform does, in grey levels of 255.
_STATED_TOLERANCE = 0.6


class TransformPreprocessing:
    """A transform from PIL images to inputs, called for each of them: what `Preprocessing` is where it cannot say the same.

    `transform_preprocessing` makes one. What it cannot do is show views beside the transform's own: the ten of `evaluate`,
    shifted ones, crops around parts.
    """

    scale = 1.0
    """The value of white before the mean is subtracted."""

    def __init__(self, transform: Transform, input_shape: tuple[int, int, int], mean: Tensor, std: Tensor) -> None:
        self.transform = transform
        self.input_shape = input_shape
        """(3, H, W)."""
        self.mean = mean
        """(3, 1, 1), RGB, from 0 (black) to 1 (white)."""
        self.std = std
        """(3, 1, 1), RGB, in the units of `mean`."""

    @property
    def crop(self) -> int:
        """Side of the network's input, in pixels."""
        return self.input_shape[1]

    def with_views(self, purpose: str) -> Preprocessing:
        """Raises `DeconvnetError`, which says for what `purpose` other views than the transform's own are wanted."""
        raise DeconvnetError(
            f"This network is shown images by a transform, which makes one view of each, and {purpose} needs others: make "
            "the network with a Preprocessing."
        )

    def __call__(self, image: Image.Image) -> Tensor:
        """The network's input for an image, (3, H, W) float32. Raises `DeconvnetError` if the transform fails on it."""
        try:
            values = self.transform(image.convert("RGB"))
        except Exception as error:
            raise DeconvnetError(f"The transform fails on an image of {_pixels(image)} ({_reason(error)}).") from error
        problem = _problem(values)
        if problem or tuple(values.shape) != self.input_shape:
            found = problem or f"makes inputs of shape {tuple(values.shape)}, not {self.input_shape},"
            raise DeconvnetError(f"The transform {found} of an image of {_pixels(image)}.")
        result: Tensor = values.detach().to("cpu", torch.float32, copy=True).contiguous()
        return result

    def view_pixels(self, image: Image.Image) -> Tensor:
        """What is kept of an image until the network is run: its input, as a transform's is no picture of pixels."""
        return self(image)

    def normalise(self, inputs: Tensor) -> Tensor:
        """`inputs`, as `view_pixels` makes them, unchanged."""
        return inputs

    def denormalise(self, inputs: Tensor) -> np.ndarray:
        """Inputs (N, 3, H, W) as pixels (N, H, W, 3) uint8."""
        pixels = (inputs.cpu() * self.std + self.mean) * 255
        return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()

    def metadata(self) -> dict[str, Any]:
        """What an atlas says of it and resuming compares: `probe` is the SHA-256 of what it makes of a fixed picture."""
        drawn = self.denormalise(self(probe_picture(PROBE_SIZES[0]))[None])  # grey levels: other machines round differently
        return {
            "transform": type(self.transform).__name__,
            "crop": self.crop,
            "channels": "RGB",
            "scale": 1,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "probe": hashlib.sha256(drawn.data).hexdigest(),
        }


def transform_preprocessing(
    transform: Transform, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> TransformPreprocessing:
    """Preprocessing by your own transform: a callable that makes a float tensor (3, H, W), RGB, of a PIL image.

    `mean` and `std`, of pixels from 0 to 1, are what it subtracts and divides by, so that its inputs can be drawn; where it
    does no more to pixels than that, they need not be given and are found by showing it plain pictures.

    Raises `UsageError` for a transform that fails, is random, makes something else or inputs that are not square or of one
    size; and for a mean or std that is not what it does, or that is missing where it cannot be found.
    """
    probes = [*map(probe_picture, PROBE_SIZES), Image.new("RGB", (8, 8), (128, 128, 128))]
    first, second, plain = (_tried(transform, picture) for picture in probes)
    if not (first.shape == second.shape == plain.shape):
        raise UsageError(
            f"The transform makes inputs of shape {tuple(first.shape)} and {tuple(second.shape)} of pictures of two sizes: "
            "let it resize and crop them to one."
        )
    if first.shape[1] != first.shape[2]:
        raise UsageError(f"The transform makes inputs of shape {tuple(first.shape)}: they have to be square.")
    if not torch.equal(first, _tried(transform, probes[0])):
        raise UsageError(
            "The transform makes another input of the same picture each time: pass the one for evaluation, without "
            "augmentation."
        )
    found = _find_normalisation(transform)
    if found is None and (mean is None or std is None):
        raise UsageError(
            "The transform does more to pixels than subtract a mean and divide by a std, or mixes the colours: to draw its "
            "inputs, pass transform_preprocessing(transform, mean=(…), std=(…))."
        )
    stated = [None if values is None else per_channel(values) for values in (mean, std)]
    if found is not None:
        for name, value, true in zip(("mean", "std"), stated, found, strict=True):
            if value is not None and (value - true).abs().max() * 255 > _STATED_TOLERANCE:
                raise UsageError(
                    f"The transform normalises with a {name} of {_numbers(true)}, not {_numbers(value)}: leave it out."
                )
        stated = list(found)
    assert stated[0] is not None, "checked above"
    assert stated[1] is not None, "checked above"
    shape = (3, int(first.shape[1]), int(first.shape[2]))
    return TransformPreprocessing(transform, shape, stated[0], stated[1])


def probe_picture(size: tuple[int, int]) -> Image.Image:
    """A picture of fixed noise, fine and coarse: what a transform does otherwise than another shows in it.

    `size` is its width and height, each 20 pixels or more.
    """
    width, height = size
    random = np.random.default_rng(size)
    fine, coarse = (
        Image.fromarray(random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).resize((width, height))
        for rows, columns in ((height, width), (height // 20, width // 20))
    )
    return Image.blend(fine, coarse, 0.7)


def _tried(transform: Transform, picture: Image.Image) -> Tensor:
    """What the transform makes of a picture, float32. Raises `UsageError` if that is no input."""
    try:
        values = transform(picture)
    except Exception as error:
        raise UsageError(
            f"The transform fails on a picture of {_pixels(picture)} ({_reason(error)}): pass a Preprocessing, such as "
            "torchvision_preprocessing(), or a callable that makes a float tensor (3, H, W) of a PIL image."
        ) from error
    if problem := _problem(values):
        raise UsageError(f"The transform {problem}: a transform makes a float tensor (3, H, W) of a PIL image.")
    result: Tensor = values.detach().to("cpu", torch.float32)
    return result


def _problem(values: Any) -> str:
    """What is wrong with a transform's output, after "the transform"; empty if nothing is."""
    if not isinstance(values, Tensor):
        return f"makes a {type(values).__name__}"
    if values.dim() != 3 or values.shape[0] != 3:
        return f"makes a tensor of shape {tuple(values.shape)}"
    if not values.is_floating_point():
        return f"makes a tensor of {values.dtype}"
    return "" if values.isfinite().all() else "makes values that are not finite"


def _find_normalisation(transform: Transform) -> tuple[Tensor, Tensor] | None:
    """Mean and std, each (3, 1, 1), by what the transform makes of plain pictures; None if it does more than use them."""

    def colour(*rgb: int) -> Tensor:
        values = _tried(transform, Image.new("RGB", (256, 256), rgb))
        return values[:, values.shape[1] // 2, values.shape[2] // 2].double()

    try:
        black, white = colour(0, 0, 0), colour(255, 255, 255)
    except UsageError:  # a picture's own deviation, which is 0
        return None
    if not (white > black).all():
        return None
    std = 1 / (white - black)
    mean = -black * std + 0.0  # never -0
    for rgb in ((64, 128, 192), (255, 0, 20)):
        expected = (torch.tensor(rgb) / 255 - mean) / std
        if ((colour(*rgb) - expected) * std).abs().max() * 255 > _STATED_TOLERANCE:
            return None
    return mean.float().view(3, 1, 1), std.float().view(3, 1, 1)


def _numbers(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values.flatten().tolist()) + ")"


def _pixels(image: Image.Image) -> str:
    return f"{image.width}×{image.height} pixels"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
