"""Networks whose weights are replaced by random ones, layer by layer from the top (Adebayo et al. 2018)."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

from deconvnet.networks import Network


def weighted_parts(module: nn.Module) -> list[str]:
    """Paths of the submodules that hold weights themselves, in the order in which the module lists them: from the bottom to
    the top of most networks.
    """
    return [name for name, part in module.named_modules() if any(True for _ in part.parameters(recurse=False))]


def cascade(network: Network, seed: int) -> Iterator[tuple[str, Network]]:
    """Networks of which one more part is random each time, from the top down: (path of that part, the network).

    A part's weights and its biases are drawn from normal distributions of their own mean and deviation, so that signals keep
    their size as far as weights decide it. All networks share what is random already, as one cascade does. `network` is not
    changed, and each of those that come is used before the next is asked for.
    """
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(network.module)
    parts = dict(module.named_modules())
    for name in reversed(weighted_parts(module)):
        with torch.no_grad():
            for values in parts[name].parameters(recurse=False):
                spread = values.float().std() if values.numel() > 1 else torch.zeros(())
                drawn = torch.randn(values.shape, generator=generator) * spread.cpu() + values.float().mean().cpu()
                values.copy_(drawn)
        yield name, _like(network, module)


def _like(network: Network, module: nn.Module) -> Network:
    return Network(
        module,
        network.preprocessing,
        name=network.name,
        weights=f"{network.weights}, randomised",
        layer_names=list(network.layers),
        classes=network.classes,
        classifies=network.classifies,
    )
