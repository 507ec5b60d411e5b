"""A running top-k: the strongest activations of each unit of a layer so far, one per image."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: The checksum of an entry that has none.
NO_CHECKSUM = -1


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
        self.checksums = torch.full((units, top), NO_CHECKSUM, dtype=torch.int64, device=device)
        """(units, top) of the images' views (`Batch.checksums`); `NO_CHECKSUM` where there is no entry, and for entries of
        version 0.1, which kept none.
        """

    @property
    def threshold(self) -> Tensor:
        """(units,) the weakest entry. A weaker activation cannot enter; an equal one can, if its image index is lower."""
        return self.values[:, -1]

    def add(self, values: Tensor, images: Tensor, flat_positions: Tensor, checksums: Tensor) -> None:
        """Add n images, without waiting for the device: `values` and `flat_positions` (units, n), `images` and `checksums`
        (n,). Position -1: nothing to add.
        """
        units: Tensor | slice = slice(None)
        if values.device.type == "cpu":  # few units change, and to sort the others takes long there; elsewhere to find them
            units = (flat_positions >= 0).any(dim=1).nonzero()[:, 0]
        flat_positions = flat_positions[units]
        values = values[units].to(self.values.dtype).where(flat_positions >= 0, 0)
        self._keep_top((values, images.expand_as(values), flat_positions, checksums.expand_as(values)), units)

    def merge(self, other: "RunningTopK") -> None:
        """Add the entries of another top-k, over other images."""
        self._keep_top(tuple(other.tensors().values()), slice(None))

    def to(self, device: torch.device | str) -> None:
        """Move the tensors to a device."""
        self.values, self.images, self.flat_positions, self.checksums = (
            tensor.to(device) for tensor in self.tensors().values()
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in a state file; not copies."""
        return {"values": self.values, "images": self.images, "places": self.flat_positions, "views": self.checksums}

    def _keep_top(self, entries: Sequence[Tensor], units: Tensor | slice) -> None:
        """Keep the best of the entries of `units` and new ones, each (units, n), in the order of `tensors`."""
        current = self.tensors().values()
        values, images, flat_positions, checksums = (
            torch.cat([tensor[units], new], dim=1) for tensor, new in zip(current, entries, strict=True)
        )
        # Sorted by image, then stably by value: equal values stay in the order of their images. Values that are not above 0
        # never get in: there are enough empty entries, of value 0 and image -1, to come before them.
        by_image = images.argsort(dim=1, stable=True)
        by_value = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)
        best = by_image.gather(1, by_value)[:, : self.top]
        for tensor, entry in zip(current, (values, images, flat_positions, checksums), strict=True):
            tensor[units] = entry.gather(1, best)
