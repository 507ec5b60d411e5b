"""Networks whose weights are replaced by random ones, step by step from the top (Adebayo et al. 2018)."""

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from deconvnet.errors import DeconvnetError
from deconvnet.models import Network
from deconvnet.progress import bar

#: Steps of a cascade at most; deeper networks take several parts at a time.
_STEPS = 16

#: Letters of a part's path that are shown.
_LETTERS = 18

#: Submodules that are made random together.
Step = list[str]


def weighted_parts(network: Network, layer: str = "", progress: bool = False) -> list[str]:
    """Paths of the submodules that hold weights themselves and on which the activations of `layer` depend, or without it the
    network's output; from the top down: those that run last come first.

    Raises `DeconvnetError` if there are none or the module cannot be copied.
    """
    size = network.preprocessing.crop
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    trial = _copy(network)

    def look() -> Tensor:
        # The scores themselves: the softmax of small ones is the same but for rounding.
        return trial.activations(x, layer) if layer else trial.output(x)

    found = _from_the_top(trial.module, look)
    before, matter = look(), []
    with bar("seeing which weights matter", len(found), progress) as advance:
        for name in found:
            part = trial.module.get_submodule(name)
            kept = {key: values.clone() for key, values in part.state_dict().items()}
            _randomise(part, torch.Generator().manual_seed(0))
            if not torch.equal(look(), before):
                matter.append(name)
            part.load_state_dict(kept)
            advance(1)
    if not matter:
        what = layer or "the output"
        raise DeconvnetError(f"No weights decide about {what} of {network.full_name}: there is nothing to make random.")
    return matter


def steps_down(parts: Sequence[str]) -> list[Step]:
    """The parts one by one, or in 16 groups of about equal number."""
    groups = np.array_split(np.array(parts), min(len(parts), _STEPS)) if parts else []
    return [group.tolist() for group in groups]


def said(step: Step) -> str:
    """How a step is called: by its only part, or as going down to the last of them; long paths lose their beginning."""
    last = step[-1] if len(step[-1]) <= _LETTERS else f"…{step[-1][1 - _LETTERS :]}"
    return last if len(step) == 1 else f"to {last}"


def cascade(network: Network, steps: Sequence[Step], seed: int, draw: int = 0) -> Iterator[Network]:
    """The network with the parts of one more step made random each time.

    A part's weights and its biases are drawn from normal distributions of their own mean and deviation, so that signals keep
    their size as far as weights decide it. The running means and variances of batch normalisation are shuffled among its
    channels. The numbers are others for each pair of `seed` and `draw`. `network` is not changed; what comes is one copy of
    it, to be used before the next is asked for.
    """
    number = int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0] >> 1)
    generator, random = torch.Generator().manual_seed(number), _copy(network)
    for step in steps:
        for name in step:
            _randomise(random.module.get_submodule(name), generator)
        yield random


def _has_weights(part: nn.Module) -> bool:
    return any(True for _ in part.parameters(recurse=False)) or (
        isinstance(part, _NormBase) and part.running_mean is not None
    )


def _from_the_top(module: nn.Module, run: Callable[[], object]) -> list[str]:
    """The submodules with weights, those that are called last when `run` runs the module first. One that is not called, as
    its weights are used by the module around it, counts with that.
    """
    called: dict[str, int] = {}
    names = {part: name for name, part in module.named_modules()}

    def call(part: nn.Module, _: object) -> None:
        called.setdefault(names[part], len(called))

    hooks = [part.register_forward_pre_hook(call) for part in names]
    run()
    for hook in hooks:
        hook.remove()

    def when(name: str) -> int:
        while name and name not in called:
            name = name.rpartition(".")[0]
        return called.get(name, 0)

    listed = [name for name, part in module.named_modules() if _has_weights(part)]
    return sorted(listed, key=when)[::-1]


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
    try:
        module = copy.deepcopy(network.module)
    except RuntimeError as error:  # weights that are made of others, as torch.nn.utils.weight_norm's are
        reason = str(error).partition(".")[0].partition("\n")[0]
        raise DeconvnetError(f"{network.full_name} cannot be copied, so it cannot be made random: {reason}.") from None
    return Network(
        module,
        network.preprocessing,
        name=network.name,
        weights=", ".join(filter(None, [network.weights, "randomised"])),
        layer_names=list(network.layers),
        classes=network.classes,
        classifies=network.classifies,
    )
