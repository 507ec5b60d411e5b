"""When a layer has become what it ends as.

The picture of a unit's strongest activation jumps whenever another photo becomes the strongest, so pictures are no measure.
What a unit answers to photos that stay the same is one: it does not depend on the unit's scale, on which photo is the
strongest, or on where in weight space the layers below have gone.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvnet.data import ImageSet, batches
from deconvnet.models import Network

#: A layer has settled where the median of its units' similarities stays at or above this.
SETTLED = 0.9

#: Photos that go through both networks at once.
_AT_ONCE = 8

#: A unit whose variance is a smaller share of its mean square answers the same everywhere, but for rounding.
_CONSTANT = 1e-10


def similarity(
    network: Network, reference: Network, image_set: ImageSet, indices: Sequence[int], workers: int | None = None
) -> dict[str, Tensor]:
    """How alike each unit's feature maps are in two networks of one kind, (units,) float64 for each convolutional layer.

    It is the Pearson correlation of the unit's activations a in `network` and b in `reference`, over all places of its
    maps of all photos in `indices` together:

        r = Σ (a − ā)(b − b̄) / √( Σ (a − ā)² · Σ (b − b̄)² )

    1 is the same up to scale and offset, 0 unrelated. NaN for a unit that is constant in `reference` (dead, for one), which
    has nothing to be like; 0 for one that is constant in `network` only. The photos are preprocessed as `reference` has it.
    """
    layers = reference.convolutional_layers
    sums = {name: torch.zeros(5, reference.layer(name).units, dtype=torch.float64) for name in layers}
    photos_read = 0
    for batch in batches(image_set, reference.preprocess, _AT_ONCE, workers, indices):
        inputs = batch.inputs[batch.rows]
        photos_read += len(inputs)
        ours, theirs = _maps(network, inputs, layers), _maps(reference, inputs, layers)
        for name in layers:
            a, b = ours[name], theirs[name]
            sums[name] += torch.stack([part.sum(dim=(0, 2, 3)) for part in (a, b, a * a, b * b, a * b)])
    return {name: _correlation(sums[name], photos_read * math.prod(reference.layer(name).map_size)) for name in layers}


def settled(epochs: Sequence[int], medians: Sequence[float]) -> int | None:
    """The first of the ascending `epochs` from which on no median similarity is below `SETTLED`:

        min { e : m(e′) ≥ 0.9 for every epoch e′ ≥ e }

    None if that is the last one only, which is compared with itself: the layer may still have been changing.
    """
    first = len(epochs) - 1
    while first > 0 and medians[first - 1] >= SETTLED:
        first -= 1
    return epochs[first] if first < len(epochs) - 1 else None


def _maps(network: Network, inputs: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The layers' outputs (n, units, rows, columns) in float64, on the CPU, because not every device has that."""
    maps: dict[str, Tensor] = {}
    with torch.inference_mode():
        network.capture(inputs, layers, lambda name, output: maps.update({name: output.cpu().double().clone()}))
    return maps


def _correlation(sums: Tensor, count: int) -> Tensor:
    """Pearson's, from Σa, Σb, Σa², Σb², Σab over `count` values, each (units,)."""
    a, b, aa, bb, ab = sums / max(count, 1)
    covariance, first, second = ab - a * b, aa - a * a, bb - b * b
    constant = first <= _CONSTANT * aa, second <= _CONSTANT * bb
    found = (covariance / (first * second).sqrt()).clamp(-1, 1)
    return found.where(~constant[0], 0.0).where(~constant[1], torch.nan)
