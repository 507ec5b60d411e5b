"""A running top-k: the strongest activations of each unit of a layer so far, one per image."""

import torch
from torch import Tensor


class RunningTopK:
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

    @property
    def threshold(self) -> Tensor:
        """(units,) what is weaker has no chance; equals have, if their image comes before."""
        return self.values[:, -1]

    def add(self, values: Tensor, images: Tensor, places: Tensor) -> None:
        """Take in n images: `values` and `places` are (units, n), `images` (n,). Where a place is -1, nothing is."""
        some = (places >= 0).any(dim=1).nonzero()[:, 0]
        if len(some):
            values, places = values[some].to(self.values.dtype), places[some]
            self._keep_best(values.where(places >= 0, 0), images.expand_as(places), places, some)

    def merge(self, other: "RunningTopK") -> None:
        """Take in the entries of another, over other images."""
        self._keep_best(other.values, other.images, other.places, slice(None))

    def to(self, device: torch.device | str) -> None:
        """Move all that it holds."""
        self.values, self.images, self.places = (kept.to(device) for kept in (self.values, self.images, self.places))

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by its names in a state file."""
        return {"values": self.values, "images": self.images, "places": self.places}

    def _keep_best(self, values: Tensor, images: Tensor, places: Tensor, units: Tensor | slice) -> None:
        """Of what some units have and the new (units, n), keep the best."""
        values, images, places = (
            torch.cat([kept[units], new], dim=1)
            for kept, new in ((self.values, values), (self.images, images), (self.places, places))
        )
        # By image, then stably by value: equal values stay in the order of their images.
        by_image = images.argsort(dim=1, stable=True)
        by_value = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)
        best = by_image.gather(1, by_value)[:, : self.top]
        values, images, places = (kept.gather(1, best) for kept in (values, images, places))
        empty = values <= 0
        values[empty], images[empty], places[empty] = 0, -1, 0
        self.values[units], self.images[units], self.places[units] = values, images, places
