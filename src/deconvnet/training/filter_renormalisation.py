"""Filter renormalisation (section 3), which keeps a few first-layer filters from dominating (Fig. 6a)."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def renormalise_filters(module: nn.Module, max_rms: float) -> None:
    """Scale each convolutional filter whose root mean square exceeds `max_rms` back to that, in place (section 3).

    A filter is all weights of one output map, without its bias. Fully connected layers are not changed.
    """
    for submodule in module.modules():
        if isinstance(submodule, nn.Conv2d):
            rms = _filter_rms(submodule)
            submodule.weight.mul_(torch.where(rms > max_rms, max_rms / rms, 1.0))


@torch.no_grad()
def max_first_layer_rms(module: nn.Module) -> float:
    """The largest root mean square of a filter of the first convolutional layer."""
    first = next(submodule for submodule in module.modules() if isinstance(submodule, nn.Conv2d))
    return float(_filter_rms(first).max())


def _filter_rms(layer: nn.Conv2d) -> Tensor:
    """Root mean square of each filter, (units, 1, 1, 1)."""
    return layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
