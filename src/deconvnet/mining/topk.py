"""A running top-k: the strongest activations of each unit of a layer so far, one per image."""

import torch
from torch import Tensor


class RunningTopK:
    """For each unit the `top` images with the largest activation, in descending order; ties by ascending image index.

    The content depends only on what was added, not on the order or the grouping of the additions, as long as no image is
    added twice. Only activations above 0 count: a unit that was never active has no entries.
    """

    def __init__(self, units: int, top: int, device: torch.device | str = "cpu") -> None:
        self.top = top
        self.values = torch.zeros(units, top, device=device)
        """(units, top) activations, 0 where there is no entry."""
        self.images = torch.full((units, top), -1, dtype=torch.int64, device=device)
        """(units, top) indices of images, -1 where there is no entry."""
        self.flat_positions = torch.zeros(units, top, dtype=torch.int64, device=device)
        """(units, top) positions in the feature map: row · columns + column."""

    @property
    def threshold(self) -> Tensor:
        """(units,) the weakest entry. A weaker activation cannot enter; an equal one can, if its image index is lower."""
        return self.values[:, -1]

    def add(self, values: Tensor, images: Tensor, flat_positions: Tensor) -> None:
        """Add n images: `values` and `flat_positions` (units, n), `images` (n,). Position -1: nothing to add."""
        changed = (flat_positions >= 0).any(dim=1).nonzero()[:, 0]
        if len(changed):
            values, flat_positions = values[changed].to(self.values.dtype), flat_positions[changed]
            values = values.where(flat_positions >= 0, 0)
            self._keep_top(values, images.expand_as(flat_positions), flat_positions, changed)

    def merge(self, other: "RunningTopK") -> None:
        """Add the entries of another top-k, over other images."""
        self._keep_top(other.values, other.images, other.flat_positions, slice(None))

    def to(self, device: torch.device | str) -> None:
        """Move the tensors to a device."""
        self.values, self.images, self.flat_positions = (
            tensor.to(device) for tensor in (self.values, self.images, self.flat_positions)
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in a state file; not copies."""
        return {"values": self.values, "images": self.images, "places": self.flat_positions}

    def _keep_top(self, values: Tensor, images: Tensor, flat_positions: Tensor, units: Tensor | slice) -> None:
        """Keep the best of the entries of `units` and the new ones (units, n)."""
        values, images, flat_positions = (
            torch.cat([current[units], new], dim=1)
            for current, new in ((self.values, values), (self.images, images), (self.flat_positions, flat_positions))
        )
        # Sorted by image, then stably by value: equal values stay in the order of their images.
        by_image = images.argsort(dim=1, stable=True)
        by_value = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)
        best = by_image.gather(1, by_value)[:, : self.top]
        values, images, flat_positions = (tensor.gather(1, best) for tensor in (values, images, flat_positions))
        empty = values <= 0
        values[empty], images[empty], flat_positions[empty] = 0, -1, 0
        self.values[units], self.images[units], self.flat_positions[units] = values, images, flat_positions
