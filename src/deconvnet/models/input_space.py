"""`InputSpace`: what a module's inputs are, how a photo becomes one, and how one is shown."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data.as_preprocessing import AnyPreprocessing
from deconvnet.data.channel_pictures import scale_channels
from deconvnet.errors import UsageError
from deconvnet.tracing import describe_error

#: Makes a picture of an input (C, H, W): (H, W) or (H, W, 3) uint8, or a PIL image.
ToImage = Callable[[Tensor], np.ndarray | Tensor | Image.Image]


class InputSpace:
    """The inputs of one network. Without a preprocessing they can be anything of one shape, but no photo becomes one."""

    def __init__(
        self,
        preprocessing: AnyPreprocessing | None,
        shape: tuple[int, int, int] | None,
        to_image: ToImage | None,
    ) -> None:
        """The arguments and errors are those of `Network`."""
        self._preprocessing, self._to_image = preprocessing, to_image
        self.shape = _shape(preprocessing, shape)
        """Channels, height and width, (C, H, W)."""
        if to_image is not None and not callable(to_image):
            raise UsageError(f"to_image is a function that makes a picture of an input (C, H, W), not {to_image!r}.")

    @property
    def reads_photos(self) -> bool:
        """Whether there is a preprocessing."""
        return self._preprocessing is not None

    @property
    def shown_channels(self) -> int:
        """Channels of what `show` gives."""
        return self.shape[0] if self.shown_as else 3

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes the same inputs of another network: keyword arguments of `Network`."""
        shape = None if self.reads_photos else self.shape
        return {"preprocessing": self._preprocessing, "input_shape": shape, "to_image": self._to_image}

    def preprocessing_of(self, network: str) -> AnyPreprocessing:
        """Turns a photo into an input. Whatever reads photos asks here, and so raises `UsageError` if there is none."""
        if self._preprocessing is None:
            raise UsageError(
                f"{network} has no preprocessing, so it cannot be shown photos: pass a torch.utils.data.Dataset of its "
                "inputs, or make it with one, as in Network(module, preprocessing)."
            )
        return self._preprocessing

    def preprocess(self, image: Image.Image, network: str) -> Tensor:
        """See `Network.preprocess`."""
        if not isinstance(image, Image.Image):
            raise UsageError(
                f"A photo is a picture of PIL, as deconvnet.data.read_image(file) makes one, not a {type(image).__name__}."
            )
        return self.preprocessing_of(network)(image)

    def check(self, x: Tensor, network: str) -> None:
        """Raise `UsageError` unless `x` has the shape (N, C, H, W)."""
        if x.dim() != 4 or tuple(x.shape[1:]) != self.shape:
            shape = ", ".join(map(str, self.shape))
            way = "network.preprocess(photo)[None] makes one from a photo" if self.reads_photos else "x[None] is one input"
            raise UsageError(f"{network} takes a tensor of shape (N, {shape}), not {tuple(x.shape)}: {way}.")

    def noise(self) -> Tensor:
        """Two inputs of noise (2, C, H, W), always the same; with a mean, or averages over one would hardly depend on it."""
        channels, *size = self.shape
        random = torch.Generator().manual_seed(0)
        return torch.randn(2, channels, *size, generator=random) + torch.randn(2, channels, 1, 1, generator=random)

    @property
    def shown_as(self) -> str:
        """How inputs are shown, in words for a figure, if that is channel by channel; else empty."""
        if self.reads_photos or self._to_image is not None:
            return ""
        return "inputs: each channel from its lowest value (black) to its highest"

    def caption(self, network: str) -> str:
        """A network's full name and, if inputs are shown channel by channel, how: for figures with such pictures."""
        return " · ".join(filter(None, (network, self.shown_as)))

    @property
    def shows_pixels(self) -> bool:
        """Whether what is shown of a photo are the pixels that the preprocessing cut out of it."""
        return self.reads_photos and self._to_image is None

    def show(self, inputs: Tensor) -> np.ndarray:
        """See `Network.show`."""
        if self._to_image is not None:
            return np.stack([self._own_picture(self._to_image, x) for x in inputs.detach().float().cpu()])
        return scale_channels(inputs) if self._preprocessing is None else self._preprocessing.denormalise(inputs)

    def _own_picture(self, to_image: ToImage, x: Tensor) -> np.ndarray:
        try:
            made = to_image(x)
        except Exception as error:  # the user's function can raise anything
            raise UsageError(f"to_image fails on an input of shape {tuple(x.shape)} ({describe_error(error)}).") from error
        return _picture(made, self.shape)


def _shape(preprocessing: AnyPreprocessing | None, shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """The shape of a network's inputs. Raises `UsageError` if neither argument says it, or they differ."""
    if preprocessing is None and shape is None:
        raise UsageError(
            "A network needs the Preprocessing that its weights were trained with, such as torchvision_preprocessing(), or, "
            "for inputs that are no photos, input_shape=(channels, height, width)."
        )
    if shape is not None:
        sizes = tuple(shape) if isinstance(shape, Sequence) else ()
        if len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
            raise UsageError(f"input_shape is (channels, height, width), such as (1, 28, 40), not {shape!r}.")
    if preprocessing is None:
        assert shape is not None
        channels, height, width = shape
        return channels, height, width
    made = 3, preprocessing.crop, preprocessing.crop
    if shape is not None and tuple(shape) != made:
        raise UsageError(
            f"The preprocessing makes inputs of shape {made}, but input_shape is {tuple(shape)}: leave input_shape out."
        )
    return made


def _picture(made: np.ndarray | Tensor | Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """What `to_image` made of an input of that shape as (H, W, 3) uint8; raises `UsageError` if it is no picture of it."""
    pixels = np.asarray(made.convert("RGB") if isinstance(made, Image.Image) else made)
    if pixels.dtype != np.uint8 or pixels.shape not in (shape[1:], (*shape[1:], 3)):
        raise UsageError(
            f"to_image gave {pixels.dtype} of shape {pixels.shape} for an input of shape {shape}: it gives uint8 of shape "
            f"{shape[1:]} or {(*shape[1:], 3)}, or a PIL image of {shape[2]}×{shape[1]} pixels."
        )
    return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)
