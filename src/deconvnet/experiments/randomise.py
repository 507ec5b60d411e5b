"""Networks whose weights are replaced by random ones, step by step from the top (Adebayo et al. 2018)."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from deconvnet.networks import Network
from deconvnet.progress import bar

#: Steps of a cascade at most; deeper networks take several parts at a time.
_STEPS = 16

#: Submodules that are made random together.
Step = list[str]


def weighted_parts(network: Network, layer: str = "", progress: bool = False) -> list[str]:
    """Paths of the submodules that hold weights themselves, from the top of the network down: the reverse of the order in
    which the module lists them, which is from the bottom up in most networks.

    With `layer`, only those on which its activations depend.
    """
    found = [name for name, part in network.module.named_modules() if _has_weights(part)][::-1]
    if not layer:
        return found
    size = network.preprocessing.crop
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    before = network.activations(x, layer)
    trial = _copy(network)
    matter = []
    with bar("finding weights", len(found), progress) as advance:
        for name in found:
            part = trial.module.get_submodule(name)
            kept = {key: values.clone() for key, values in part.state_dict().items()}
            _randomise(part, torch.Generator().manual_seed(0))
            if not torch.equal(trial.activations(x, layer), before):
                matter.append(name)
            part.load_state_dict(kept)
            advance(1)
    return matter


def steps_down(parts: Sequence[str]) -> list[Step]:
    """The parts one by one, or in 16 groups of about equal number."""
    groups = np.array_split(np.array(parts), min(len(parts), _STEPS)) if parts else []
    return [group.tolist() for group in groups]


def said(step: Step) -> str:
    """How a step is called: by the last of its parts."""
    return step[0] if len(step) == 1 else f"… {step[-1]}"


def cascade(network: Network, steps: Sequence[Step], seed: int) -> Iterator[Network]:
    """The network with the parts of one more step made random each time.

    A part's weights and its biases are drawn from normal distributions of their own mean and deviation, so that signals keep
    their size as far as weights decide it. The running means and variances of batch normalisation are shuffled among its
    channels. `network` is not changed; what comes is one copy of it, to be used before the next is asked for.
    """
    generator, random = torch.Generator().manual_seed(seed), _copy(network)
    for step in steps:
        for name in step:
            _randomise(random.module.get_submodule(name), generator)
        yield random


def _has_weights(part: nn.Module) -> bool:
    return any(True for _ in part.parameters(recurse=False)) or (
        isinstance(part, _NormBase) and part.running_mean is not None
    )


@torch.no_grad()
def _randomise(part: nn.Module, generator: torch.Generator) -> None:
    for values in part.parameters(recurse=False):
        spread = values.float().std() if values.numel() > 1 else torch.zeros(())
        drawn = torch.randn(values.shape, generator=generator) * spread.cpu() + values.float().mean().cpu()
        values.copy_(drawn)
    if isinstance(part, _NormBase) and part.running_mean is not None and part.running_var is not None:
        order = torch.randperm(len(part.running_mean), generator=generator).to(part.running_mean.device)
        for statistic in (part.running_mean, part.running_var):
            statistic.copy_(statistic[order])


def _copy(network: Network) -> Network:
    return Network(
        copy.deepcopy(network.module),
        network.preprocessing,
        name=network.name,
        weights=f"{network.weights}, randomised",
        layer_names=list(network.layers),
        classes=network.classes,
        classifies=network.classifies,
    )
