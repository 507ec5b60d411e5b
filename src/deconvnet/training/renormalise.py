"""Filter renormalisation (section 3): what keeps a few first-layer filters from dominating (Fig. 6a)."""

import torch
from torch import nn


@torch.no_grad()
def renormalise(module: nn.Module, largest_rms: float) -> None:
    """Scale each filter of each convolutional layer whose root mean square exceeds `largest_rms` back to it, in place.

    A filter is all weights of one output map, its bias excluded. Fully connected layers are left alone.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            rms = part.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            part.weight.mul_(torch.where(rms > largest_rms, largest_rms / rms, 1.0))
