"""Projections as pictures: zero is mid-grey, on a scale that is symmetric about it."""

import math

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.errors import UsageError

MID_GREY = 128


def display_scale(projections: Tensor) -> float:
    """The absolute value drawn as black or white: the 99.5th percentile, so that a few spikes do not turn the rest grey.

    The largest absolute value if the percentile is zero, as so few values are not; 1 if all are zero or there are none.
    """
    values = projections.detach().abs().flatten().cpu().double().numpy()
    if not values.size:
        return 1.0
    return float(np.percentile(values, 99.5)) or float(values.max()) or 1.0


def to_pixels(projections: Tensor, scale: float) -> np.ndarray:
    """(..., C, H, W) signed values as (..., H', W', 3) uint8, with channels as `channels_as_rgb` arranges them.

    0 → 128, ±scale and beyond → 255 and 0.
    """
    return channels_as_rgb(to_levels(projections, scale))


def to_levels(projections: Tensor, scale: float) -> np.ndarray:
    """As `to_pixels`, but (..., H, W, C): each channel by itself."""
    values = projections.detach().cpu().double().numpy() / scale
    grey: np.ndarray = np.rint(np.clip(127.5 + 127.5 * values, 0, 255)).astype(np.uint8)
    return np.moveaxis(grey, -3, -1)


def picture(projection: Tensor, columns: int | None = None) -> Image.Image:
    """A projection (C, H, W) or (N, C, H, W) as an RGB PIL image; several are tiled `columns` to a row (default: nearly
    square), all on one scale. One channel is grey, three are RGB, others stand side by side in a grid.

    Zero becomes 128. The scale is symmetric about it: the 99.5th percentile of the absolute values that are not zero becomes
    255 if positive, 0 if negative. So brightness cannot be compared between pictures of different calls.

    Raises `UsageError` for less than one column.
    """
    if columns is not None and columns < 1:
        raise UsageError(f"There are no rows of {columns} pictures: columns is 1 or more.")
    projections = projection if projection.dim() == 4 else projection[None]
    # Most of an input lies outside the receptive field and is exactly zero, which must not influence the scale.
    tiles = to_pixels(projections, display_scale(projections[projections != 0]))
    return Image.fromarray(tile_grid(tiles, columns or math.ceil(math.sqrt(len(tiles))), tile_gap(projections.shape[1])))


def tile_gap(channels: int) -> int:
    """Pixels between tiles of so many channels: more than between the channels of one, if these stand side by side."""
    return 1 if channels in (1, 3) else 6


def tile_grid(tiles: np.ndarray, columns: int, gap: int = 1, background: int = 190) -> np.ndarray:
    """Tiles (N, H, W, 3) as one sheet (H', W', 3) uint8, `columns` to a row, `gap` pixels between them."""
    count, height, width, _ = tiles.shape
    rows = math.ceil(count / columns)
    columns = min(columns, count)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
