"""When a layer's units have become what they are at the end of training.

Pictures of strongest activations are no measure of that: a unit's picture jumps whenever another image becomes its
strongest. The correlation of its feature maps over fixed images is one: it does not depend on the unit's scale, on which
image is the strongest, or on how the weights of the layers below have changed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvnet.data import InputSet
from deconvnet.models import InputReader, Network, to_inputs

#: A layer has converged once the median similarity of its units stays at or above this.
CONVERGED_SIMILARITY = 0.9

#: Images that go through both networks in one batch.
_BATCH_SIZE = 8

#: A unit whose variance is a smaller fraction of its mean square is constant but for rounding.
_MIN_RELATIVE_VARIANCE = 1e-10


def similarity(
    network: Network, reference: Network, image_set: InputSet, indices: Sequence[int], workers: int | None = None
) -> dict[str, Tensor]:
    """Similarity of each unit's feature maps in two networks of one architecture: by convolutional layer, (units,) float64.

    It is the Pearson correlation of the unit's activations a in `network` and b in `reference`, over all positions of its
    maps for all images in `indices` together:

        r = Σ (a − ā)(b − b̄) / √( Σ (a − ā)² · Σ (b − b̄)² )

    1 means the same up to scale and offset, 0 unrelated. NaN for a unit that is constant in `reference`, such as a dead one;
    0 for one that is constant in `network` only. Images go through the preprocessing of `reference`.
    """
    layers = reference.convolutional_layers
    sums = {name: torch.zeros(5, reference.layer(name).units, dtype=torch.float64) for name in layers}
    image_count = 0
    for batch in InputReader(reference, image_set, _BATCH_SIZE).batches(indices, workers):
        inputs = to_inputs(reference, batch.inputs[batch.rows])
        image_count += len(inputs)
        maps, reference_maps = _feature_maps(network, inputs, layers), _feature_maps(reference, inputs, layers)
        for name in layers:
            a, b = maps[name], reference_maps[name]
            sums[name] += torch.stack([values.sum(dim=(0, 2, 3)) for values in (a, b, a * a, b * b, a * b)])
    return {name: _correlation(sums[name], image_count * math.prod(reference.layer(name).map_size)) for name in layers}


def convergence_epoch(epochs: Sequence[int], medians: Sequence[float]) -> int | None:
    """The first of the ascending `epochs` from which on every median similarity is at least `CONVERGED_SIMILARITY`:

        min { e : m(e′) ≥ 0.9 for every epoch e′ ≥ e }

    None if that is only the last epoch, whose similarity to itself is 1: the layer may still have been changing.
    """
    first = len(epochs) - 1
    while first > 0 and medians[first - 1] >= CONVERGED_SIMILARITY:
        first -= 1
    return epochs[first] if first < len(epochs) - 1 else None


def _feature_maps(network: Network, inputs: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The layers' outputs (n, units, rows, columns) in float64; on the CPU, because some devices do not have float64."""
    maps: dict[str, Tensor] = {}
    with torch.inference_mode():
        network.capture(inputs, layers, lambda name, output: maps.update({name: output.cpu().double().clone()}))
    return maps


def _correlation(sums: Tensor, count: int) -> Tensor:
    """Pearson's correlation (units,), from `sums` (5, units) over `count` values: Σa, Σb, Σa², Σb², Σab."""
    a, b, aa, bb, ab = sums / max(count, 1)
    covariance, variance_a, variance_b = ab - a * b, aa - a * a, bb - b * b
    constant_a, constant_b = variance_a <= _MIN_RELATIVE_VARIANCE * aa, variance_b <= _MIN_RELATIVE_VARIANCE * bb
    correlation = (covariance / (variance_a * variance_b).sqrt()).clamp(-1, 1)
    return correlation.where(~constant_a, 0.0).where(~constant_b, torch.nan)
