"""Project mined hits, checking on the way that each photo still gives the value that was mined."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import Batch, read_batch
from deconvnet.errors import DeconvnetError
from deconvnet.mining import LayerHits
from deconvnet.models import Network, parallel_map
from deconvnet.projection import project_batch
from deconvnet.tracing import Layer

#: How far a value found again may lie from the one mined, relative to it …
TOLERANCE = 1e-5
#: … or, if that is more, to this share of the layer's largest: next to nothing is rounding of much larger sums.
SMALL = 0.01


class HitsChanged(DeconvnetError):
    """What was mined is not what the photos and the network give now."""


@dataclass(frozen=True)
class UnitProjections:
    """What the picture of one unit is made of."""

    unit: int
    projections: Tensor
    """(hits, 3, h, w), cut to the receptive field, strongest first."""
    patches: np.ndarray
    """(hits, h, w, 3) uint8, the same places in the photos."""
    difference: float
    """The largest relative difference (see `SMALL`) between a mined value and the one found while projecting."""


def picture_size(network: Network, layer: Layer) -> tuple[int, int]:
    """Height and width of a layer's patches: its receptive field, as far as the input goes."""
    height, width = layer.field.size
    return min(height, network.preprocessing.crop), min(width, network.preprocessing.crop)


def project_units(
    network: Network,
    hits: LayerHits,
    units: list[int],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    see_view: Callable[[int, np.ndarray], None] = lambda image, view: None,
) -> Iterator[UnitProjections]:
    """Project every hit of `units`, all in memory together; yields one `UnitProjections` per unit, in order.

    `see_view` is called with every photo's index and its view (crop, crop, 3) uint8 as it is read, perhaps several times.
    Raises `HitsChanged` if a photo cannot be read any more, or a value cannot be found again to `TOLERANCE`.
    """
    layer, strongest = hits.layer, hits.strongest
    height, width = picture_size(network, layer)
    which, ranks = (strongest.images[units] >= 0).nonzero().unbind(dim=1)  # one element per hit
    number = torch.tensor(units)[which]
    images, values, positions = (
        strongest.images[number, ranks],
        strongest.values[number, ranks],
        hits.positions[number, ranks],
    )
    smallest = SMALL * strongest.values.max()

    def read(part: slice) -> tuple[slice, Batch]:
        batch = read_batch(hits.image_set, network.preprocessing.viewed, images[part].tolist(), batch_size)
        for image, reason in batch.skipped.items():
            raise HitsChanged(f"{hits.image_set.file(image)} could be read while mining, but now it {reason}.")
        return part, batch

    def project(own: Network, given: tuple[slice, Batch]) -> tuple[slice, np.ndarray, Tensor, Tensor]:
        """The batch's views, projections and differences."""
        part, batch = given
        # The whole padded batch goes through, as when mining: a batch of another size may round otherwise.
        padded = torch.zeros(len(batch.inputs), dtype=torch.int64), torch.zeros(len(batch.inputs), 2, dtype=torch.int64)
        padded[0][batch.rows], padded[1][batch.rows] = number[part], positions[part]
        corners = torch.zeros_like(padded[1])
        inputs = own.preprocessing.normalise(batch.inputs.to(own.device))
        size = torch.maximum(values[part], smallest)
        for cones in (True, False):  # a cone may round otherwise than the whole pass that mined; that is then made again
            found = project_batch(own, inputs, layer.name, *padded, cones=cones)
            difference = (found.values.cpu()[batch.rows] - values[part]).abs() / size
            if (difference <= TOLERANCE).all():
                break
        _check(difference, hits, images[part], number[part])
        corners[batch.rows] = torch.tensor([layer.field.patch_box(*place)[1::-1] for place in positions[part].tolist()])
        return part, batch.inputs[batch.rows].numpy(), found.cut(corners, (height, width))[batch.rows].cpu(), difference

    projections = torch.zeros(len(units), strongest.top, 3, height, width)
    patches = np.zeros((len(units), strongest.top, height, width, 3), dtype=np.uint8)
    differences = [0.0] * len(units)
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    with closing(parallel_map(network, read, project, parts, workers)) as projected:
        for part, views, pixels, difference in projected:
            places = zip(
                which[part].tolist(), ranks[part].tolist(), positions[part].tolist(), images[part].tolist(), strict=True
            )
            for index, (unit, rank, (row, column), image) in enumerate(places):
                left, top, right, bottom = layer.field.patch_box(row, column)
                projections[unit, rank] = pixels[index]
                patches[unit, rank] = views[index, top:bottom, left:right]
                differences[unit] = max(differences[unit], difference[index].item())
                see_view(image, views[index])
    counts = (strongest.images[units] >= 0).sum(dim=1).tolist()
    for index, unit in enumerate(units):
        count = counts[index]
        yield UnitProjections(unit, projections[index, :count], patches[index, :count], differences[index])


def _check(difference: Tensor, hits: LayerHits, images: Tensor, units: Tensor) -> None:
    worst = int(difference.argmax())
    if not difference[worst] <= TOLERANCE:  # NaN is no agreement either
        raise HitsChanged(
            f"{hits.layer.name} unit {units[worst]} gives another value for {hits.image_set.paths[images[worst]]} than when it "
            f"was mined (relative difference {difference[worst]:.1e}): the photo or the network has changed, so mine again."
        )
