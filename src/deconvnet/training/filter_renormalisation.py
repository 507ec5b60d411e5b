"""Filter renormalisation (section 3): what keeps a few first-layer filters from dominating (Fig. 6a)."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def renormalise(module: nn.Module, largest_rms: float) -> None:
    """Scale each filter of each convolutional layer whose root mean square exceeds `largest_rms` back to it, in place.

    A filter is all weights of one output map, its bias excluded. Fully connected layers are left alone.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            rms = _rms(part)
            part.weight.mul_(torch.where(rms > largest_rms, largest_rms / rms, 1.0))


@torch.no_grad()
def first_layer_rms(module: nn.Module) -> float:
    """The largest root mean square of the first convolutional layer's filters."""
    first = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    return float(_rms(first).max())


def _rms(layer: nn.Conv2d) -> Tensor:
    """(units, 1, 1, 1)."""
    return layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
