"""The patch that occludes a part of the image (section 4.2)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from deconvnet.errors import UsageError
from deconvnet.models import Network

Shape = Literal["square", "disc"]
SHAPES: tuple[str, ...] = get_args(Shape)


@dataclass(frozen=True)
class Occluder:
    """A patch of one colour that slides over the view, always fully inside.

    The defaults are measured in Fig. 7: 50×50 pixels in steps of 6, which is 30×30 positions for a view of 224×224.

    Raises `UsageError` for a size or stride below 1, an unknown shape or a colour outside of 0 to 255.
    """

    size: int = 50
    """Width and height, in pixels of the view."""
    stride: int = 6
    """Pixels between neighbouring positions."""
    colour: tuple[int, int, int] | None = None
    """RGB, 0 to 255; None is 0 in the network's input, the mean of its training images."""
    shape: Shape = "square"

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise UsageError(f"An occluder has a size and a stride of at least 1 pixel, not {self.size} and {self.stride}.")
        if self.shape not in SHAPES:
            raise UsageError(f"An occluder is a {' or a '.join(SHAPES)}, not {self.shape!r}.")
        if self.colour is not None and not all(0 <= value <= 255 for value in self.colour):
            raise UsageError(f"An occluder's colour is three numbers from 0 to 255, not {self.colour}.")

    def starts(self, length: int) -> range:
        """The rows of the upper edge at all positions in a view so many pixels high; or the columns of the left edge in one
        so many pixels wide.

        Raises `UsageError` if the occluder is larger than the view.
        """
        if self.size > length:
            raise UsageError(f"An occluder of {self.size} pixels does not fit into a view of {length}: pass a smaller size.")
        return range(0, length - self.size + 1, self.stride)

    def corners(self, height: int, width: int | None = None) -> Tensor:
        """(positions, 2) row and column of the upper left corner at each position in a view of `height` × `width` pixels
        (default: a square), row by row. Raises as `starts`.
        """
        rows, columns = (torch.tensor(self.starts(length)) for length in (height, width or height))
        return torch.cartesian_prod(rows, columns)

    def occluded_windows(self, x: Tensor, corners: Tensor, network: Network) -> Tensor:
        """(N, C, size, size) the windows at `corners` (N, 2) of the network's input x (C, H, W), occluded.

        Raises `UsageError` for a colour if the network has no preprocessing.
        """
        fill, mask = self._input_colour(network).to(x), self.mask.to(x.device)
        windows = []
        for row, column in corners.tolist():
            window = (slice(None), slice(row, row + self.size), slice(column, column + self.size))
            colour = fill[window] if fill.shape[1] > 1 else fill.expand(len(x), self.size, self.size)
            windows.append(torch.where(mask, colour, x[window]))
        return torch.stack(windows)

    @property
    def mask(self) -> Tensor:
        """(size, size) bool: which pixels are occluded. All of a square; those of a disc whose centre is in the circle."""
        if self.shape == "square":
            return torch.ones(self.size, self.size, dtype=torch.bool)
        from_centre = torch.arange(self.size) - (self.size - 1) / 2
        return from_centre[:, None] ** 2 + from_centre**2 <= (self.size / 2) ** 2

    def _input_colour(self, network: Network) -> Tensor:
        """The occluder's colour as network input: (C, 1, 1), or (3, crop, crop) where a mean image is subtracted."""
        if self.colour is None:
            return torch.zeros(network.input_shape[0], 1, 1)
        preprocessing = network.preprocessing
        pixel = torch.tensor(self.colour, dtype=torch.float32).view(3, 1, 1) * (preprocessing.scale / 255)
        return (pixel - preprocessing.mean) / preprocessing.std
