"""Project mined hits, and check that each image is the one that was mined and gives the value that it gave then.

A changed image is told by its checksum, and a changed network by the digest in the key of the mining state. Values are
computed again only to guard the arithmetic: they may differ as far as rounding takes them.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import Batch
from deconvnet.errors import DeconvnetError
from deconvnet.mining import LayerHits
from deconvnet.mining.topk import NO_CHECKSUM
from deconvnet.models import InputReader, Network, parallel_map, to_inputs, to_pictures
from deconvnet.models.rounding_error import rounding_errors
from deconvnet.projection import plan_batches, project_batch

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
    """(hits, C, h, w), cropped to the receptive field, strongest first."""
    patches: np.ndarray
    """(hits, h, w, 3) uint8, the same windows of the images, as `Network.show` shows them."""
    views: dict[int, np.ndarray]
    """What the network was shown, by image index: (H, W, 3) uint8, or as `Network.show` gives it."""
    difference: float
    """The largest difference between a mined value and the one found while projecting, relative to the mined one (but see
    `SMALL`); 0 if none of the unit's values was computed again."""


def project_units(
    network: Network,
    hits: LayerHits,
    units: list[int],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Generator[UnitProjections]:
    """Project every hit of `units`, then yield one `UnitProjections` per unit, in order.

    Memory grows with the number of hits. Close the generator if it is not exhausted. Raises `HitsChanged` if an image can no
    longer be read or is another one than when it was mined, `DeconvnetError` if a value differs from the mined one by more
    than rounding explains. Values are computed again for one batch, and where the mining state has no checksums.
    """
    layer, topk = hits.layer, hits.topk
    is_hit = topk.images[units] >= 0
    rows, ranks = is_hit.nonzero().unbind(dim=1)  # one element per hit, unit by unit
    hit_units = torch.tensor(units)[rows]
    images, values, positions, checksums = (
        tensor[hit_units, ranks] for tensor in (topk.images, topk.values, hits.positions, topk.checksums)
    )
    largest, channels = float(topk.values.max()), network.input_space.shown_channels

    def read(item: tuple[Tensor, Tensor, Any]) -> tuple[Tensor, Batch, Tensor]:
        """The batch's hits, their images, each read once, and each hit's row among these."""
        batch_hits, photos, readable = item
        batch = reader.read(readable, int(photos.max()) + 1)
        for image, reason in batch.skipped.items():
            raise HitsChanged(f"{hits.image_set.describe(image)} could be read while mining, but now it {reason}.")
        is_other = (checksums[batch_hits] != NO_CHECKSUM) & (checksums[batch_hits] != batch.checksums()[photos])
        for image in images[batch_hits][is_other].tolist():
            raise HitsChanged(f"{hits.image_set.describe(image)} {hits.image_set.what_changed}.")
        return batch_hits, batch.pinned_for(network.device), photos

    def project(replica: Network, item: tuple[Tensor, Batch, Tensor]) -> tuple[Tensor, Batch, Tensor, Tensor]:
        """The batch's hits, their images, cropped projections and differences of values."""
        batch_hits, batch, photos = item
        inputs = to_inputs(replica, batch.inputs)
        arguments = replica, inputs, layer.name, hit_units[batch_hits], positions[batch_hits]
        # With the mined values the forward pass can end at the highest max pooling. They are computed again for one batch,
        # and where a photo may have changed.
        is_checked = batch_hits is batches[0] or (checksums[batch_hits] == NO_CHECKSUM).any()
        known = None if is_checked else values[batch_hits]
        for allow_cropping in (True, False):  # a cropped pass may round differently from the full one that mined
            projected = project_batch(*arguments, photos=photos, values=known, allow_cropping=allow_cropping)
            difference = (projected.values.cpu() - values[batch_hits]).abs()
            if _is_rounding(difference, largest, replica, layer.name):
                break
        else:
            worst = batch_hits[difference.nan_to_num(torch.inf).argmax()]
            raise _inexplicable(hits, hit_units[worst], images[worst], difference.max() / largest)
        relative = difference / values[batch_hits].clamp(min=SMALL * largest)
        return batch_hits, batch, projected.crop(layer).cpu(), relative

    projections = torch.zeros(len(images), network.input_shape[0], *layer.field.patch_size)
    differences = torch.zeros(len(images))
    views: dict[int, np.ndarray] = {}
    planned = plan_batches(network, layer.name, hit_units, positions, images, batch_size)
    batches = [batch_hits for batch_hits in planned if len(batch_hits)]
    distinct = [torch.unique(images[batch_hits], return_inverse=True) for batch_hits in batches]
    reader = InputReader(network, hits.image_set, batch_size)
    readable = reader.items([batch_images.tolist() for batch_images, _ in distinct])
    items = zip(batches, (photos for _, photos in distinct), readable, strict=True)
    with closing(parallel_map(network, read, project, items, workers, batch_size)) as projected_batches:
        for batch_hits, batch, pixels, relative in projected_batches:
            projections[batch_hits], differences[batch_hits] = pixels, relative
            views |= zip(batch.indices.tolist(), to_pictures(network, batch.inputs[batch.rows]), strict=True)
    counts = is_hit.sum(dim=1).tolist()
    for unit, unit_hits in zip(units, torch.split(torch.arange(len(images)), counts), strict=True):
        unit_images, boxes = images[unit_hits].tolist(), [layer.field.patch_box(*p) for p in positions[unit_hits].tolist()]
        patches = [
            views[i][top:bottom, left:right] for i, (left, top, right, bottom) in zip(unit_images, boxes, strict=True)
        ]
        yield UnitProjections(
            unit,
            projections[unit_hits],
            np.stack(patches) if patches else np.zeros((0, *layer.field.patch_size, channels), dtype=np.uint8),
            {image: views[image] for image in unit_images},
            float(differences[unit_hits].amax()) if patches else 0.0,
        )


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
