"""The results of mining: hits and statistics of every unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import InputSet
from deconvnet.mining.statistics import Statistics
from deconvnet.mining.topk import RunningTopK
from deconvnet.tracing import Box, Layer


@dataclass(frozen=True)
class Hit:
    """One of the top-k activations of a unit: its maximum in one image."""

    layer: str
    unit: int
    """From 0."""
    rank: int
    """From 1, the strongest."""
    image: int
    """Index of the image in the image set, from 0."""
    path: str
    """The image's file, relative to the root of the image set; of a data set the index as text."""
    value: float
    """The activation, above 0."""
    row: int
    """Of the activation in the feature map, from 0."""
    column: int
    """Of the activation in the feature map, from 0."""
    box: Box
    """The activation's receptive field in pixels of the network's input, clipped to it."""


@dataclass(frozen=True)
class LayerHits:
    """The hits of one layer's units, on the CPU. `layer_hits[unit]` is a list of `Hit`, strongest first."""

    layer: Layer
    image_set: InputSet
    topk: RunningTopK
    """The hits as tensors."""
    statistics: Statistics

    @property
    def positions(self) -> Tensor:
        """(units, top, 2) rows and columns of the hits in their feature maps."""
        columns = self.layer.map_size[1]
        return torch.stack([self.topk.flat_positions // columns, self.topk.flat_positions % columns], dim=2)

    def random_units(self, count: int, generator: np.random.Generator) -> list[int]:
        """`count` units drawn at random (see `draw_random_units`)."""
        return draw_random_units((self.topk.images[:, 0] >= 0).tolist(), count, generator)

    def __len__(self) -> int:
        return self.layer.units

    def __iter__(self) -> Iterator[list[Hit]]:
        return (self[unit] for unit in range(self.layer.units))

    def __getitem__(self, unit: int) -> list[Hit]:
        """The hits of a unit, strongest first; an empty list for a dead unit."""
        entries = zip(
            self.topk.values[unit].tolist(),
            self.topk.images[unit].tolist(),
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
            for rank, (value, image, (row, column)) in enumerate(entries, start=1)
            if image >= 0
        ]


@dataclass(frozen=True)
class MiningResult:
    """The hits and statistics of some layers' units over a set of images. `result["conv5"]` is that layer's `LayerHits`."""

    image_set: InputSet
    layers: dict[str, LayerHits]
    top: int
    """Hits per unit, at most."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Indices of images that could not be read, with the reason."""

    def __getitem__(self, layer: str) -> LayerHits:
        return self.layers[layer]

    @property
    def read_count(self) -> int:
        """Number of images that could be read."""
        return len(self.image_set) - len(self.skipped)


def draw_random_units(active: Sequence[bool], count: int, generator: np.random.Generator) -> list[int]:
    """Indices of `count` entries of `active` (all, if there are fewer), drawn at random, ascending.

    Units that are never active are drawn only where too few others remain. Every figure of random units draws them here.
    """
    order = generator.permutation(len(active)).tolist()
    return sorted(sorted(order, key=lambda unit: not active[unit])[:count])
