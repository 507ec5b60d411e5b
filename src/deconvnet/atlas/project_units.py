"""Project mined hits, and check that each image still gives the value that was mined."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import Batch, read_batch
from deconvnet.errors import DeconvnetError
from deconvnet.mining import LayerHits
from deconvnet.models import Network, parallel_map
from deconvnet.projection import project_batch

#: Largest difference between a mined value and the one found while projecting, relative to the mined value …
TOLERANCE = 1e-5
#: … or to this fraction of the layer's largest value, if that is more: a tiny value may be rounding of much larger sums.
SMALL = 0.01


class HitsChanged(DeconvnetError):
    """The images or the network no longer give what was mined."""


@dataclass(frozen=True)
class UnitProjections:
    """The projections of one unit's hits, and the images that they come from."""

    unit: int
    projections: Tensor
    """(hits, 3, h, w), cropped to the receptive field, strongest first."""
    patches: np.ndarray
    """(hits, h, w, 3) uint8, the same windows of the images."""
    views: dict[int, np.ndarray]
    """The whole views that the network was shown, (crop, crop, 3) uint8, by image index."""
    difference: float
    """The largest relative difference (see `SMALL`) between a mined value and the one found while projecting."""


def project_units(
    network: Network,
    hits: LayerHits,
    units: list[int],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Generator[UnitProjections]:
    """Project every hit of `units`, and yield one `UnitProjections` per unit, in order, as soon as its hits are projected.

    Close the generator if it is not exhausted. Raises `HitsChanged` if an image can no longer be read, or a value differs
    from the mined one by more than `TOLERANCE`.
    """
    layer, topk = hits.layer, hits.topk
    height, width = layer.field.patch_size
    is_hit = topk.images[units] >= 0
    rows, ranks = is_hit.nonzero().unbind(dim=1)  # one element per hit, unit by unit
    hit_units = torch.tensor(units)[rows]
    images, values, positions = (
        topk.images[hit_units, ranks],
        topk.values[hit_units, ranks],
        hits.positions[hit_units, ranks],
    )
    smallest_scale = SMALL * topk.values.max()

    def read(batch_hits: slice) -> tuple[slice, Batch]:
        batch = read_batch(hits.image_set, network.preprocessing.view_pixels, images[batch_hits].tolist(), batch_size)
        for image, reason in batch.skipped.items():
            raise HitsChanged(f"{hits.image_set.file(image)} could be read while mining, but now it {reason}.")
        return batch_hits, batch

    def project(replica: Network, item: tuple[slice, Batch]) -> tuple[slice, np.ndarray, Tensor, Tensor]:
        """The batch's hits, views, cropped projections and relative differences."""
        batch_hits, batch = item
        # The whole padded batch is passed, as in mining: a batch of another size may round differently.
        padded_units = torch.zeros(len(batch.inputs), dtype=torch.int64)
        padded_positions = torch.zeros(len(batch.inputs), 2, dtype=torch.int64)
        padded_units[batch.rows], padded_positions[batch.rows] = hit_units[batch_hits], positions[batch_hits]
        inputs = replica.preprocessing.normalise(batch.inputs.to(replica.device))
        scale = torch.maximum(values[batch_hits], smallest_scale)
        for allow_cropping in (True, False):  # a cropped pass may round differently from the full one that mined
            projected = project_batch(
                replica, inputs, layer.name, padded_units, padded_positions, allow_cropping=allow_cropping
            )
            difference = (projected.values.cpu()[batch.rows] - values[batch_hits]).abs() / scale
            if (difference <= TOLERANCE).all():
                break
        _check(difference, hits, images[batch_hits], hit_units[batch_hits])
        return batch_hits, batch.inputs[batch.rows].numpy(), projected.crop(layer)[batch.rows].cpu(), difference

    batches = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    with closing(parallel_map(network, read, project, batches, workers)) as projected_batches:
        projected_hits = (
            hit
            for batch_hits, views, pixels, difference in projected_batches
            for hit in zip(
                images[batch_hits].tolist(), positions[batch_hits].tolist(), views, pixels, difference.tolist(), strict=True
            )
        )
        for unit, count in zip(units, is_hit.sum(dim=1).tolist(), strict=True):
            projections = torch.zeros(count, 3, height, width)
            patches = np.zeros((count, height, width, 3), dtype=np.uint8)
            unit_views: dict[int, np.ndarray] = {}
            largest_difference = 0.0
            for rank, (image, position, view, pixels, difference) in enumerate(islice(projected_hits, count)):
                left, top, right, bottom = layer.field.patch_box(*position)
                projections[rank] = pixels
                patches[rank] = view[top:bottom, left:right]
                unit_views[image] = view
                largest_difference = max(largest_difference, difference)
            yield UnitProjections(unit, projections, patches, unit_views, largest_difference)


def _check(difference: Tensor, hits: LayerHits, images: Tensor, units: Tensor) -> None:
    worst = int(difference.argmax())
    if not difference[worst] <= TOLERANCE:  # NaN compares false too
        raise HitsChanged(
            f"{hits.layer.name} unit {units[worst]} gives another value for {hits.image_set.paths[images[worst]]} than when "
            f"it was mined (relative difference {difference[worst]:.1e}): "
            "the photo or the network has changed, so mine again."
        )
