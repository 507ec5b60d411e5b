"""What mining finds."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.mining.statistics import Statistics
from deconvnet.mining.topk import RunningTopK
from deconvnet.tracing import Box, Layer


@dataclass(frozen=True)
class Hit:
    """One strong activation of one unit in one photo."""

    layer: str
    unit: int
    """From 0."""
    rank: int
    """From 1, the strongest."""
    image: int
    """The photo's place in the sorted list of all photos, from 0."""
    path: str
    """The photo, relative to its folder."""
    value: float
    """The activation, above 0."""
    row: int
    """Its place in the feature map, from 0."""
    column: int
    """Likewise."""
    box: Box
    """Its receptive field in pixels of the network's input, clipped to it."""


@dataclass(frozen=True)
class LayerHits:
    """The hits of one layer's units, on the CPU."""

    layer: Layer
    image_set: ImageSet
    strongest: RunningTopK
    statistics: Statistics

    @property
    def positions(self) -> Tensor:
        """(units, top, 2) rows and columns of the hits in their feature maps."""
        columns = self.layer.map_size[1]
        return torch.stack([self.strongest.places // columns, self.strongest.places % columns], dim=2)

    def random_units(self, count: int, random: np.random.Generator) -> list[int]:
        """`count` units (all, if there are fewer), ascending; dead ones only where there are not enough others."""
        alive = (self.strongest.images[:, 0] >= 0).tolist()
        order = random.permutation(len(alive)).tolist()
        return sorted(sorted(order, key=lambda unit: not alive[unit])[:count])

    def __len__(self) -> int:
        return self.layer.units

    def __iter__(self) -> Iterator[list[Hit]]:
        return (self[unit] for unit in range(self.layer.units))

    def __getitem__(self, unit: int) -> list[Hit]:
        """The hits of a unit, strongest first; none for a dead unit."""
        found = zip(
            self.strongest.values[unit].tolist(),
            self.strongest.images[unit].tolist(),
            self.positions[unit].tolist(),
            strict=True,
        )
        return [
            Hit(
                layer=self.layer.name,
                unit=unit,
                rank=rank,
                image=image,
                path=self.image_set.paths[image],
                value=value,
                row=row,
                column=column,
                box=self.layer.field.clipped_box(row, column),
            )
            for rank, (value, image, (row, column)) in enumerate(found, start=1)
            if image >= 0
        ]


@dataclass(frozen=True)
class MiningResult:
    """The strongest activations of every unit of some layers over a set of photos."""

    image_set: ImageSet
    layers: dict[str, LayerHits]
    top: int
    skipped: dict[int, str] = field(default_factory=dict)
    """Photos that could not be read, by index, with the reason."""

    def __getitem__(self, layer: str) -> LayerHits:
        return self.layers[layer]

    @property
    def read(self) -> int:
        """How many photos were read."""
        return len(self.image_set) - len(self.skipped)
