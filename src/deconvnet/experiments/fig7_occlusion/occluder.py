"""What is laid over a photo to see whether the classifier needs what is under it (section 4.2)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from deconvnet.data import Preprocessing
from deconvnet.errors import UsageError

Shape = Literal["square", "disc"]
SHAPES: tuple[str, ...] = get_args(Shape)


@dataclass(frozen=True)
class Occluder:
    """A patch of one colour that is moved over the view, always fully inside.

    The defaults are those that can be measured in Fig. 7: 50×50 pixels in steps of 6, which makes 30×30 positions of a view
    of 224.
    """

    size: int = 50
    """Pixels of the view, across and down."""
    stride: int = 6
    """Pixels between positions."""
    colour: tuple[int, int, int] | None = None
    """RGB, 0 to 255; None is 0 in the network's input, the mean of its training photos."""
    shape: Shape = "square"

    def __post_init__(self) -> None:
        """Raises `UsageError` for what is no occluder."""
        if self.size < 1 or self.stride < 1:
            raise UsageError(f"An occluder has a size and a stride of at least 1 pixel, not {self.size} and {self.stride}.")
        if self.shape not in SHAPES:
            raise UsageError(f"An occluder is a {' or a '.join(SHAPES)}, not {self.shape!r}.")
        if self.colour is not None and not all(0 <= value <= 255 for value in self.colour):
            raise UsageError(f"An occluder's colour is three numbers from 0 to 255, not {self.colour}.")

    def starts(self, crop: int) -> range:
        """Rows of the positions' upper edges in a view of crop × crop pixels; the same of columns.

        Raises `UsageError` if the occluder is larger than the view.
        """
        if self.size > crop:
            raise UsageError(f"An occluder of {self.size} pixels does not fit into a view of {crop}: pass a smaller size.")
        return range(0, crop - self.size + 1, self.stride)

    def corners(self, crop: int) -> Tensor:
        """(positions, 2) rows and columns of all positions' upper left corners, row by row. Raises as `starts`."""
        starts = torch.tensor(self.starts(crop))
        return torch.cartesian_prod(starts, starts)

    def windows(self, x: Tensor, corners: Tensor, preprocessing: Preprocessing) -> Tensor:
        """What stands in the place of x (3, S, S), an input of the network, at `corners` (N, 2): (N, 3, size, size)."""
        covering = self._input(preprocessing).to(x)
        windows = []
        for row, column in corners.tolist():
            part = (slice(None), slice(row, row + self.size), slice(column, column + self.size))
            covered = covering[part] if covering.shape[1] > 1 else covering.expand(3, self.size, self.size)
            windows.append(torch.where(self.mask, covered, x[part]))
        return torch.stack(windows)

    @property
    def mask(self) -> Tensor:
        """(size, size) which pixels are covered: all, or those whose centre lies in the circle."""
        if self.shape == "square":
            return torch.ones(self.size, self.size, dtype=torch.bool)
        from_centre = torch.arange(self.size) - (self.size - 1) / 2
        return from_centre[:, None] ** 2 + from_centre**2 <= (self.size / 2) ** 2

    def _input(self, preprocessing: Preprocessing) -> Tensor:
        """The occluder's colour as the network's input: (3, 1, 1), or (3, crop, crop) where a mean image is subtracted."""
        if self.colour is None:
            return torch.zeros(3, 1, 1)
        pixel = torch.tensor(self.colour, dtype=torch.float32).view(3, 1, 1) * (preprocessing.scale / 255)
        return (pixel - preprocessing.mean) / preprocessing.std
