"""The transformations of Fig. 5: vertical translation, scaling and rotation of a network's input."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Transformation:
    """One kind of transformation, and the values of its parameter that are measured."""

    name: str
    axis_label: str
    """What the values are, with their unit."""
    values: tuple[float, ...]
    """Ascending; `identity` is among them."""
    identity: float
    """The value that changes nothing."""
    shown_indices: tuple[int, ...]
    """Indices of the values whose views the figure shows."""
    apply: Callable[[Tensor, float], Tensor]
    """Transforms an input (C, H, W) by a value; vacated pixels become 0, the mean of the training images."""


def translated(x: Tensor, pixels: float) -> Tensor:
    """(C, H, W) translated down by a whole number of pixels, or up if it is negative."""
    result, shift, height = torch.zeros_like(x), round(pixels), x.shape[1]
    remaining = max(height - abs(shift), 0)
    result[:, max(shift, 0) : max(shift, 0) + remaining] = x[:, max(-shift, 0) : max(-shift, 0) + remaining]
    return result


def scaled(x: Tensor, ratio: float) -> Tensor:
    """(C, H, W) scaled by `ratio` about its centre, so that its border is cut off. Bilinear."""
    return _resample(x, ((1 / ratio, 0.0), (0.0, 1 / ratio)))


def rotated(x: Tensor, degrees: float) -> Tensor:
    """(C, H, W) rotated anticlockwise about its centre. Bilinear."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _resample(x, ((cosine, -sine), (sine, cosine)))


def _resample(x: Tensor, inverse: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """`inverse` maps each output pixel to where it is read in `x`, in pixels (right, down) from the centre."""
    if inverse == ((1.0, -0.0), (0.0, 1.0)):
        return x.clone()  # without rounding
    (right_right, right_down), (down_right, down_down) = inverse
    ratio = x.shape[1] / x.shape[2]  # `affine_grid` has both sides from −1 to 1, however long they are
    rows = ((right_right, right_down * ratio, 0.0), (down_right / ratio, down_down, 0.0))
    matrix = torch.tensor(rows, dtype=x.dtype, device=x.device)[None]
    grid = F.affine_grid(matrix, [1, *x.shape], align_corners=False)
    return F.grid_sample(x[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


#: The paper's ranges; it does not state the steps.
TRANSFORMATIONS = (
    Transformation(
        "translation", "vertical translation (pixels)", tuple(range(-60, 61, 4)), 0, (0, 8, 15, 22, 30), translated
    ),
    Transformation("scale", "scale (ratio)", tuple(1 + step / 25 for step in range(21)), 1, (0, 5, 10, 15, 20), scaled),
    Transformation("rotation", "rotation (degrees)", tuple(range(0, 360, 10)), 0, (0, 9, 18, 27, 35), rotated),
)
