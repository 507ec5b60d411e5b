"""Cascading randomisation (Adebayo et al. 2018): randomise weights from the top down, and compare pictures at each step."""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from deconvnet.errors import DeconvnetError
from deconvnet.experiments.sanity_checks.curves import ModuleGroup, RandomisationCurve
from deconvnet.models import Network
from deconvnet.progress import Advance, progress_bar

#: A change counts if it is more than so many times the difference between two passes that change nothing.
_PASS_MARGIN = 4

#: Groups of a cascade at most; in deeper networks each has several submodules.
_MAX_GROUPS = 16


def influential_modules(network: Network, layer: str = "", progress: bool = False) -> list[str]:
    """Paths of the submodules whose own weights the activations of `layer` depend on, those that run last first.

    Without `layer`, those that the network's output depends on. Found by randomising each submodule alone.

    Raises `DeconvnetError` if there are none or the module cannot be copied.
    """
    x = torch.randn(1, *network.input_shape, generator=torch.Generator().manual_seed(0))
    trial = _copy_network(network)

    def forward() -> Tensor:
        # Scores rather than probabilities: where scores are small, a change of them is lost in the softmax's rounding.
        return trial.activations(x, layer) if layer else trial.output(x)

    paths = _modules_in_reverse_call_order(trial.module, forward)
    original, influential = forward(), []
    difference_of_passes = (forward() - original).abs().max()  # 0 on a CPU
    with progress_bar("seeing which weights matter", len(paths), progress) as advance:
        for path in paths:
            module = trial.module.get_submodule(path)
            saved = {name: values.clone() for name, values in module.state_dict().items()}
            _randomise_weights(module, torch.Generator().manual_seed(0))
            if not (forward() - original).abs().max() <= _PASS_MARGIN * difference_of_passes:  # NaN compares false
                influential.append(path)
            module.load_state_dict(saved)
            advance(1)
    if not influential:
        what = layer or "the output"
        raise DeconvnetError(f"No weights decide about {what} of {network.full_name}: there is nothing to make random.")
    return influential


def group_modules(paths: Sequence[str]) -> list[ModuleGroup]:
    """Each submodule in its own group, or, if there are more than 16, in 16 groups of about equal size."""
    groups = np.array_split(np.array(paths), min(len(paths), _MAX_GROUPS)) if paths else []
    return [group.tolist() for group in groups]


def cascading_randomisation(network: Network, groups: Sequence[ModuleGroup], seed: int, draw: int = 0) -> Iterator[Network]:
    """Yield the network with the first group of submodules randomised, then with the first two, … then with all.

    A parameter is drawn from a normal distribution with its own mean and standard deviation, so that the size of signals
    stays about the same. Running means and variances of batch normalisation are permuted among channels. Each pair of `seed`
    and `draw` gives other random numbers. `network` is not changed: one copy of it is yielded again and again, so use it
    before the next iteration. Raises `DeconvnetError` if the module cannot be copied.
    """
    torch_seed = int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0] >> 1)
    generator, randomised = torch.Generator().manual_seed(torch_seed), _copy_network(network)
    for group in groups:
        for path in group:
            _randomise_weights(randomised.module.get_submodule(path), generator)
        yield randomised


def randomisation_curves(
    network: Network,
    groups: Sequence[ModuleGroup],
    draws: int,
    seed: int,
    compute_pictures: Callable[[Network], dict[str, list[Tensor]]],
    compare: Callable[[Tensor, Tensor], dict[str, float]],
    measures: Sequence[str],
    advance: Advance,
) -> dict[str, RandomisationCurve]:
    """Randomise a network from the top down, `draws` times, and compare its pictures with the original ones.

    `compute_pictures` returns the pictures of all images by kind, such as the rule set of projections; `compare`
    returns the similarity of two of them by `measures`. Returns a curve for each kind. `advance` is called with the number
    of images after each step.
    """
    originals = compute_pictures(network)
    count = len(next(iter(originals.values())))
    first_pictures = {kind: [pictures[0].numpy()] for kind, pictures in originals.items()}
    similarity = {kind: {measure: np.empty((count, draws, len(groups))) for measure in measures} for kind in originals}
    final_pictures: dict[str, list[list[Tensor]]] = {kind: [] for kind in originals}
    for draw in range(draws):
        randomised_pictures = originals
        for step, randomised in enumerate(cascading_randomisation(network, groups, seed, draw)):
            randomised_pictures = compute_pictures(randomised)
            for kind, pictures in randomised_pictures.items():
                for index, (original, picture) in enumerate(zip(originals[kind], pictures, strict=True)):
                    for measure, value in compare(original, picture).items():
                        similarity[kind][measure][index, draw, step] = value
                if draw == 0:
                    first_pictures[kind].append(pictures[0].numpy())
            advance(count)
        for kind, pictures in randomised_pictures.items():
            final_pictures[kind].append(pictures)
    return {
        kind: RandomisationCurve(
            list(groups),
            first_pictures[kind],
            similarity[kind],
            _unrelated_similarity(final_pictures[kind], compare, measures),
        )
        for kind in originals
    }


def _unrelated_similarity(
    pictures_by_draw: Sequence[Sequence[Tensor]],
    compare: Callable[[Tensor, Tensor], dict[str, float]],
    measures: Sequence[str],
) -> dict[str, np.ndarray]:
    """By measure (images, pairs of draws) the similarity of an image's pictures in any two draws."""
    similarities = [
        [compare(first, second) for first, second in combinations(pictures, 2)]
        for pictures in zip(*pictures_by_draw, strict=True)
    ]
    return {measure: np.array([[pair[measure] for pair in pairs] for pairs in similarities]) for measure in measures}


def _has_weights(module: nn.Module) -> bool:
    """Whether the module itself, not only its children, has parameters or running statistics."""
    return any(True for _ in module.parameters(recurse=False)) or (
        isinstance(module, _NormBase) and module.running_mean is not None
    )


def _modules_in_reverse_call_order(root: nn.Module, forward: Callable[[], object]) -> list[str]:
    """Paths of the submodules with weights, in the reverse order of their first call while `forward` runs `root`.

    A submodule that is never called, because its parent uses its weights directly, takes the position of that parent.
    """
    call_order: dict[str, int] = {}
    paths = {module: path for path, module in root.named_modules()}

    def record_call(module: nn.Module, _: object) -> None:
        call_order.setdefault(paths[module], len(call_order))

    hooks = [module.register_forward_pre_hook(record_call) for module in paths]
    forward()
    for hook in hooks:
        hook.remove()

    def order(path: str) -> int:
        while path and path not in call_order:
            path = path.rpartition(".")[0]
        return call_order.get(path, 0)

    with_weights = [path for path, module in root.named_modules() if _has_weights(module)]
    return sorted(with_weights, key=order)[::-1]


@torch.no_grad()
def _randomise_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Randomise the module's own parameters and running statistics in place, not those of its children."""
    for values in module.parameters(recurse=False):
        std = values.float().std() if values.numel() > 1 else torch.zeros(())
        new_values = torch.randn(values.shape, generator=generator) * std.cpu() + values.float().mean().cpu()
        values.copy_(new_values)
    if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
        permutation = torch.randperm(len(module.running_mean), generator=generator).to(module.running_mean.device)
        for statistic in (module.running_mean, module.running_var):
            statistic.copy_(statistic[permutation])


def _copy_network(network: Network) -> Network:
    try:
        module = copy.deepcopy(network.module)
    except RuntimeError as error:  # of weights computed from others, as by torch.nn.utils.weight_norm
        reason = str(error).partition(".")[0].partition("\n")[0]
        raise DeconvnetError(f"{network.full_name} cannot be copied, so it cannot be made random: {reason}.") from None
    return Network(
        module,
        **network.input_space.arguments,
        name=network.name,
        weights=", ".join(filter(None, [network.weights, "randomised"])),
        layer_names=list(network.layers),
        classes=network.classes,
        classifies=network.classifies,
    )
