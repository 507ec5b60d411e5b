"""The projections of several activations, and where in the feature maps and the input these are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.tracing import Layer, paste


@dataclass(frozen=True)
class ProjectionBatch:
    """The projections of N activations, one per input (section 2.1), on the network's device."""

    crops: Tensor
    """(N, 3, h, w), signed, in the space of the network's input. Every pixel outside them is zero, as the activations do not
    depend on it."""
    corners: Tensor
    """(N, 2) row and column of each crop's first pixel in the input; a crop may extend beyond the input."""
    size: tuple[int, int]
    """Height and width of the input."""
    values: Tensor
    """(N,) the projected activations."""
    rows: Tensor
    """(N,) their rows in the feature maps."""
    columns: Tensor
    """(N,) their columns in the feature maps."""

    @property
    def pixels(self) -> Tensor:
        """(N, 3, H, W), the projections at the size of the input."""
        return self._at(torch.zeros_like(self.corners), self.size)

    def positions(self) -> list[list[int]]:
        """The row and the column of each activation; waits for the device once."""
        return torch.stack([self.rows, self.columns], dim=1).tolist()

    def crop(self, layer: Layer) -> Tensor:
        """(N, 3, h, w), each projection cropped to its receptive field moved inside the input (`ReceptiveField.patch_box`).

        `layer` is the layer that was projected; (h, w) is the size of its field, at most that of the input.
        """
        boxes = [layer.field.patch_box(row, column) for row, column in self.positions()]
        height, width = layer.field.patch_size
        return self._at(torch.tensor([(box.top, box.left) for box in boxes]).view(-1, 2), (height, width))

    def _at(self, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, *size), the window of each projection whose first row and column are `corners` (N, 2)."""
        if tuple(self.crops.shape[2:]) == size and torch.equal(self.corners, corners):
            return self.crops
        windows = self.crops.new_zeros(*self.crops.shape[:2], *size)
        paste(windows, self.crops, self.corners - corners)
        return windows


def strongest_position(maps: Tensor, units: Tensor) -> Tensor:
    """(N, 2) the row and column of the largest activation of units[n] in maps[n], the first in row-major order among equals.

    `maps` is (N, units, rows, columns), such as feature maps as `Network.capture` passes them; `units` is (N,).
    """
    indices = maps[torch.arange(len(maps), device=maps.device), units].flatten(1).argmax(dim=1)
    return torch.stack([indices // maps.shape[3], indices % maps.shape[3]], dim=1)
