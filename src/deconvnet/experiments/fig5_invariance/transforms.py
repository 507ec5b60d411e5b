"""Fig. 5's transformations of a photo: moved up and down, enlarged, turned."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Transformation:
    """One way of transforming a photo, and how far."""

    name: str
    axis: str
    """What its values are, as they are written at an axis."""
    values: tuple[float, ...]
    """Ascending; `identity`, which changes nothing, is among them."""
    identity: float
    pictured: tuple[int, ...]
    """Numbers of the values that pictures show."""
    apply: Callable[[Tensor, float], Tensor]
    """An input (3, S, S) transformed by a value; 0, the mean of the training photos, where nothing is left of the photo."""


def moved(x: Tensor, pixels: float) -> Tensor:
    """(3, S, S) moved down by a whole number of pixels, or up if it is negative."""
    result, shift, height = torch.zeros_like(x), round(pixels), x.shape[1]
    kept = max(height - abs(shift), 0)
    result[:, max(shift, 0) : max(shift, 0) + kept] = x[:, max(-shift, 0) : max(-shift, 0) + kept]
    return result


def enlarged(x: Tensor, ratio: float) -> Tensor:
    """(3, S, S) enlarged about its centre, so that its border is cut off. Bilinear."""
    return _resampled(x, ((1 / ratio, 0.0), (0.0, 1 / ratio)))


def turned(x: Tensor, degrees: float) -> Tensor:
    """(3, S, S) turned anticlockwise about its centre. Bilinear."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _resampled(x, ((cosine, -sine), (sine, cosine)))


def _resampled(x: Tensor, back: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """Each pixel is read from where the matrix `back` takes it, in coordinates (right, down) from the centre."""
    if back == ((1.0, -0.0), (0.0, 1.0)):
        return x.clone()  # without rounding
    matrix = torch.tensor([[*row, 0.0] for row in back], dtype=x.dtype, device=x.device)[None]
    grid = F.affine_grid(matrix, [1, *x.shape], align_corners=False)
    return F.grid_sample(x[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


#: The paper's ranges; its steps are not stated.
TRANSFORMATIONS = (
    Transformation("translation", "vertical translation (pixels)", tuple(range(-60, 61, 4)), 0, (0, 8, 15, 22, 30), moved),
    Transformation("scale", "scale (ratio)", tuple(1 + step / 25 for step in range(21)), 1, (0, 5, 10, 15, 20), enlarged),
    Transformation("rotation", "rotation (degrees)", tuple(range(0, 360, 10)), 0, (0, 9, 18, 27, 35), turned),
)
