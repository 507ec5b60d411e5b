"""Networks whose weights are replaced by random ones, layer by layer from the top (Adebayo et al. 2018)."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from deconvnet.networks import Network


def weighted_parts(network: Network, layer: str = "") -> list[str]:
    """Paths of the submodules that hold weights themselves, from the top of the network down: the reverse of the order in
    which the module lists them, which is from the bottom up in most networks.

    With `layer`, only those on which its activations depend.
    """
    module = network.module
    found = [name for name, part in module.named_modules() if any(True for _ in part.parameters(recurse=False))][::-1]
    if not layer:
        return found
    size = network.preprocessing.crop
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    before = network.activations(x, layer)
    return [
        name
        for name in found
        if any(not torch.equal(random.activations(x, layer), before) for random in cascade(network, [name], 0))
    ]


def cascade(network: Network, parts: Sequence[str], seed: int) -> Iterator[Network]:
    """Networks of which one more of the `parts` is random each time.

    A part's weights and its biases are drawn from normal distributions of their own mean and deviation, so that signals keep
    their size as far as weights decide it. `network` is not changed, and each of those that come is used before the next
    is asked for: they share their memory.
    """
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(network.module)
    submodules = dict(module.named_modules())
    for name in parts:
        with torch.no_grad():
            for values in submodules[name].parameters(recurse=False):
                spread = values.float().std() if values.numel() > 1 else torch.zeros(())
                drawn = torch.randn(values.shape, generator=generator) * spread.cpu() + values.float().mean().cpu()
                values.copy_(drawn)
        yield _like(network, module)


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
