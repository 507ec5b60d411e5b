"""Project mined hits, and check that each image is the one that was mined and gives the value that it gave then.

A changed image is told by its checksum, and a changed network by the digest in the key of the mining state. Values are
computed again only to guard the arithmetic: they may differ as far as rounding takes them.
"""

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
from deconvnet.mining.topk import NO_CHECKSUM
from deconvnet.models import Network, parallel_map
from deconvnet.models.rounding_error import rounding_errors
from deconvnet.projection import project_batch

#: Values may differ by this many times the measured rounding error of the layer (`rounding_errors`), relative to the layer's
#: largest value. That error is of one image, and each of the two values has its own.
ROUNDING_MARGIN = 32

#: Differences are reported relative to the mined value, or to this fraction of the layer's largest value if that is more: a
#: tiny value may be rounding of much larger sums.
SMALL = 0.01


class HitsChanged(DeconvnetError):
    """The images are no longer those that were mined."""


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
    """The largest difference between a mined value and the one found while projecting, relative to the mined one (but see
    `SMALL`)."""


def project_units(
    network: Network,
    hits: LayerHits,
    units: list[int],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Generator[UnitProjections]:
    """Project every hit of `units`, and yield one `UnitProjections` per unit, in order, as soon as its hits are projected.

    Close the generator if it is not exhausted. Raises `HitsChanged` if an image can no longer be read or is another one than
    when it was mined, `DeconvnetError` if a value differs from the mined one by more than rounding explains.
    """
    layer, topk = hits.layer, hits.topk
    height, width = layer.field.patch_size
    is_hit = topk.images[units] >= 0
    rows, ranks = is_hit.nonzero().unbind(dim=1)  # one element per hit, unit by unit
    hit_units = torch.tensor(units)[rows]
    images, values, positions, checksums = (
        tensor[hit_units, ranks] for tensor in (topk.images, topk.values, hits.positions, topk.checksums)
    )
    largest = float(topk.values.max())

    def read(batch_hits: slice) -> tuple[slice, Batch]:
        batch = read_batch(hits.image_set, network.preprocessing.view_pixels, images[batch_hits].tolist(), batch_size)
        for image, reason in batch.skipped.items():
            raise HitsChanged(f"{hits.image_set.file(image)} could be read while mining, but now it {reason}.")
        is_other = (checksums[batch_hits] != NO_CHECKSUM) & (checksums[batch_hits] != batch.checksums())
        for image in batch.indices[is_other].tolist():
            raise HitsChanged(f"{hits.image_set.file(image)} has other pixels than when it was mined, so mine again.")
        return batch_hits, batch

    def project(replica: Network, item: tuple[slice, Batch]) -> tuple[slice, np.ndarray, Tensor, Tensor]:
        """The batch's hits, views, cropped projections and differences of values."""
        batch_hits, batch = item
        # The whole padded batch is passed, as in mining: a batch of another size may round differently.
        padded_units = torch.zeros(len(batch.inputs), dtype=torch.int64)
        padded_positions = torch.zeros(len(batch.inputs), 2, dtype=torch.int64)
        padded_units[batch.rows], padded_positions[batch.rows] = hit_units[batch_hits], positions[batch_hits]
        inputs = replica.preprocessing.normalise(batch.inputs.to(replica.device))
        for allow_cropping in (True, False):  # a cropped pass may round differently from the full one that mined
            projected = project_batch(
                replica, inputs, layer.name, padded_units, padded_positions, allow_cropping=allow_cropping
            )
            difference = (projected.values.cpu()[batch.rows] - values[batch_hits]).abs()
            if _is_rounding(difference, largest, replica, layer.name):
                break
        else:
            worst = int(difference.nan_to_num(torch.inf).argmax())
            raise _inexplicable(hits, hit_units[batch_hits][worst], images[batch_hits][worst], difference[worst] / largest)
        relative = difference / values[batch_hits].clamp(min=SMALL * largest)
        return batch_hits, batch.inputs[batch.rows].numpy(), projected.crop(layer)[batch.rows].cpu(), relative

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


def _is_rounding(difference: Tensor, largest: float, network: Network, layer: str) -> bool:
    """Whether rounding explains differences (n,) between activations of a layer whose largest one is `largest`.

    False if one is NaN. Rounding is measured only where it is more than the dtype's own.
    """
    worst = float(difference.max()) / largest
    eps = torch.finfo(network.dtype).eps
    return worst <= ROUNDING_MARGIN * eps or worst <= ROUNDING_MARGIN * rounding_errors(network)[layer]


def _inexplicable(hits: LayerHits, unit: Tensor, image: Tensor, difference: Tensor) -> DeconvnetError:
    """The error of a value that is another one than when it was mined."""
    sentence = (
        f"{hits.layer.name} unit {unit} gives another value for {hits.image_set.paths[image]} than when it was mined "
        f"({difference:.1e} of the layer's largest value away)"
    )
    if (hits.topk.checksums[hits.topk.images == image] == NO_CHECKSUM).any():
        return HitsChanged(f"{sentence}: the photo or the network has changed, so mine again.")
    return DeconvnetError(
        f"{sentence}, although the photo is the same: the network does not compute the same in every pass, or something "
        "has changed that its weights do not show."
    )
