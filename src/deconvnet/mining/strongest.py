"""A running top-k: the strongest activations of each unit of a layer so far, one per image."""

import torch
from torch import Tensor


class Strongest:
    """For each unit the `top` images with the largest activation, in descending order; equals by ascending image index.

    What it holds depends only on what was added, not on the order or the grouping of the additions, as long as no image is
    added twice. Only activations above 0 count: a unit that was never active has no entries.
    """

    def __init__(self, units: int, top: int, device: torch.device | str = "cpu") -> None:
        self.top = top
        self.values = torch.zeros(units, top, device=device)
        """(units, top), 0 where there is no entry."""
        self.images = torch.full((units, top), -1, dtype=torch.int64, device=device)
        """(units, top) indices of images, -1 where there is no entry."""
        self.places = torch.zeros(units, top, dtype=torch.int64, device=device)
        """(units, top) row-major positions in the feature map."""

    def add(self, values: Tensor, images: Tensor, places: Tensor) -> None:
        """Take in n images: `values` and `places` are (units, n), `images` (n,)."""
        self._keep_best(values, images.expand_as(places), places)

    def merge(self, other: "Strongest") -> None:
        """Take in the entries of another, over other images."""
        self._keep_best(other.values, other.images, other.places)

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name."""
        return {"values": self.values, "images": self.images, "places": self.places}

    def _keep_best(self, values: Tensor, images: Tensor, places: Tensor) -> None:
        values = torch.cat([self.values, values.to(self.values.dtype)], dim=1)
        images, places = torch.cat([self.images, images], dim=1), torch.cat([self.places, places], dim=1)
        # By image, then stably by value: equal values stay in the order of their images.
        by_image = images.argsort(dim=1, stable=True)
        by_value = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)
        best = by_image.gather(1, by_value)[:, : self.top]
        self.values, self.images, self.places = (kept.gather(1, best) for kept in (values, images, places))
        empty = self.values <= 0
        self.values[empty], self.images[empty], self.places[empty] = 0, -1, 0
