"""What the weights of a layer's filters show without images: their strength, and near-duplicates."""

import torch
from torch import Tensor

from deconvnet.tracing import LayerWeights

#: Two filters are near-duplicates if the cosine between them is at least this: an angle below 26 degrees, where they look
#: alike. Random filters of 100 weights and more are never that close.
DUPLICATE_COSINE = 0.9

#: A filter is faint if its largest weight is below this fraction of the layer's largest: on a sheet with one scale all of it
#: is within 13 of 255 grey levels of mid-grey, which is what looks dead in Fig. 6.
FAINT_FRACTION = 0.1

#: Rows of the matrix of all pairs whose cosines are computed in one batch.
_ROWS_PER_BATCH = 512


def filter_rms(layer: LayerWeights) -> Tensor:
    """(units,) the root mean square of each filter's weights: what section 3's renormalisation keeps at 0.1 or below."""
    return layer.weights.flatten(1).cpu().double().square().mean(dim=1).sqrt()


def is_faint(layer: LayerWeights) -> Tensor:
    """(units,) whether a filter is so weak, relative to the strongest of its layer, that it looks grey next to it:

        max |wᵢ| < 0.1 · maxⱼ max |wⱼ|

    An all-zero filter is faint.
    """
    largest = layer.weights.flatten(1).abs().amax(dim=1).cpu().double()
    return (largest < FAINT_FRACTION * largest.max()) | (largest == 0)


def nearest_cosine(layer: LayerWeights) -> Tensor:
    """(units,) the largest cosine, −1 to 1, between a filter and any other of its group,

        maxⱼ ⟨wᵢ, wⱼ⟩ / (‖wᵢ‖ ‖wⱼ‖)

    as RoyChowdhury et al. 2017 ("Reducing duplicate filters in deep neural networks") find duplicates. Filters of other
    groups are connected to other maps, so they are no copies. NaN for an all-zero filter and for one alone in its group.
    """
    weights = layer.weights.flatten(1).cpu().double()
    directions = weights / weights.norm(dim=1, keepdim=True)  # NaN for an all-zero filter
    return torch.cat([_nearest_cosine(group) for group in directions.chunk(layer.groups)])


def _nearest_cosine(directions: Tensor) -> Tensor:
    nearest = torch.full((len(directions),), -torch.inf, dtype=torch.float64)
    for start in range(0, len(directions), _ROWS_PER_BATCH):
        rows = torch.arange(start, min(start + _ROWS_PER_BATCH, len(directions)))
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        nearest[rows] = cosines.nan_to_num(nan=-torch.inf, neginf=-torch.inf).amax(dim=1).clamp(max=1.0)
    is_zero = directions.isnan().any(dim=1)
    return nearest.where(~is_zero & nearest.isfinite(), torch.nan)
