"""What the weights of a layer's filters tell without a photo: how strong they are, and which are copies of each other."""

import torch
from torch import Tensor

from deconvnet.tracing import Filters

#: Two filters are near-duplicates if the cosine between them is at least this: an angle below 26 degrees, where one looks
#: like the other. Of random filters of 100 weights and more none are so near.
DUPLICATE = 0.9

#: A filter is faint if its largest weight is below this share of the layer's largest: on a sheet with one scale all of it
#: is within 13 of 255 grey levels of mid-grey, which is what looks dead in Fig. 6.
FAINT = 0.1

#: Cosines that are computed at once, in rows of the matrix of all pairs.
_ROWS = 512


def rms(filters: Filters) -> Tensor:
    """(units,) the root mean square of each filter's weights: what section 3's renormalisation keeps at 0.1 or below."""
    return filters.weights.flatten(1).cpu().double().square().mean(dim=1).sqrt()


def faint(filters: Filters) -> Tensor:
    """(units,) whether a filter is so weak, relative to the strongest of its layer, that it looks grey beside that:

        max |wᵢ| < 0.1 · maxⱼ max |wⱼ|

    An all-zero filter is faint.
    """
    largest = filters.weights.flatten(1).abs().amax(dim=1).cpu().double()
    return (largest < FAINT * largest.max()) | (largest == 0)


def nearest(filters: Filters) -> Tensor:
    """(units,) how alike the filter most like it is, −1 to 1: the largest cosine with another filter of its group,

        maxⱼ ⟨wᵢ, wⱼ⟩ / (‖wᵢ‖ ‖wⱼ‖)

    as RoyChowdhury et al. 2017 ("Reducing duplicate filters in deep neural networks") find duplicates. Filters of other
    groups see other maps, so they are no copies. NaN for an all-zero filter and for one that is alone.
    """
    weights = filters.weights.flatten(1).cpu().double()
    length = weights.norm(dim=1, keepdim=True)
    directions = (weights / length).where(length > 0, torch.nan)
    return torch.cat([_nearest(group) for group in directions.chunk(filters.groups)])


def _nearest(directions: Tensor) -> Tensor:
    found = torch.full((len(directions),), -torch.inf, dtype=torch.float64)
    for first in range(0, len(directions), _ROWS):
        rows = torch.arange(first, min(first + _ROWS, len(directions)))
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        found[rows] = cosines.nan_to_num(nan=-torch.inf, neginf=-torch.inf).amax(dim=1).clamp(max=1.0)
    zero = directions.isnan().any(dim=1)
    return found.where(~zero & found.isfinite(), torch.nan)
