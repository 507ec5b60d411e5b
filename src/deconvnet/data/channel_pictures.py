"""Pictures of tensors with any number of channels: one in grey, three as RGB, others side by side in a grid."""

import math

import numpy as np
from torch import Tensor

#: The grey between the channels of a grid, and of its empty cells.
_GAP_GREY = 190


def scale_channels(inputs: Tensor) -> np.ndarray:
    """Inputs (N, C, H, W) as (N, H, W, C) uint8: each channel of each input from its lowest value, 0, to its highest, 255.

    A constant channel is 128.
    """
    values = inputs.detach().cpu().double().numpy()
    low, high = values.min(axis=(2, 3), keepdims=True), values.max(axis=(2, 3), keepdims=True)
    spread = np.where(high > low, high - low, 1.0)
    scaled = np.where(high > low, 255 * ((values - low) / spread), 128.0)
    return np.moveaxis(np.rint(scaled).astype(np.uint8), 1, -1)


def channels_as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels (..., H, W, C) uint8 as (..., H', W', 3): one channel in grey, three as RGB, others as a grid in grey.

    The grid has ⌈√C⌉ channels to a row, the first at the top left.
    """
    *leading, height, width, channels = pixels.shape
    if channels == 3:
        return pixels
    if channels > 1:
        sheet = np.full((*leading, *rgb_size((height, width), channels), 1), _GAP_GREY, dtype=np.uint8)
        for channel, (top, left) in enumerate(channel_corners((height, width), channels)):
            sheet[..., top : top + height, left : left + width, 0] = pixels[..., channel]
        pixels = sheet
    return pixels.repeat(3, axis=-1)


def fit_tiles(tiles: np.ndarray, size: tuple[int, int], grey: int = 128) -> np.ndarray:
    """Tiles (N, h, w, 3) in the middle of tiles (N, *size, 3), enlarged by the largest whole factor that fits."""
    height, width = tiles.shape[1:3]
    if (height, width) == size:
        return tiles
    zoom = min(size[0] // height, size[1] // width)
    result = np.full((len(tiles), *size, 3), grey, dtype=np.uint8)
    top, left = (size[0] - zoom * height) // 2, (size[1] - zoom * width) // 2
    result[:, top : top + zoom * height, left : left + zoom * width] = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return result


def rgb_size(size: tuple[int, int], channels: int) -> tuple[int, int]:
    """Height and width of what `channels_as_rgb` makes of pictures of that height and width."""
    if channels == 3:
        return size
    height, width = ((side + _gap(size)) * count - _gap(size) for side, count in zip(size, _grid(channels), strict=True))
    return height, width


def channel_corners(size: tuple[int, int], channels: int) -> list[tuple[int, int]]:
    """Row and column of the first pixel of each picture of that height and width in what `channels_as_rgb` makes of them."""
    if channels == 3:
        return [(0, 0)]
    height, width = (side + _gap(size) for side in size)
    columns = _grid(channels)[1]
    return [(index // columns * height, index % columns * width) for index in range(channels)]


def _gap(size: tuple[int, int]) -> int:
    """Pixels between the channels of a grid, which are of that height and width."""
    return 1 + max(size) // 64


def _grid(channels: int) -> tuple[int, int]:
    """Rows and columns of the grid of so many channels."""
    columns = math.ceil(math.sqrt(channels))
    return math.ceil(channels / columns), columns
