"""Sanity checks of occlusion maps: randomised weights, and the deletion test, which occludes the image in a map's order."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import predict_class
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, ModuleGroup, RandomisationCurve
from deconvnet.experiments.sanity_checks.randomisation import randomisation_curves
from deconvnet.experiments.sanity_checks.similarity import rank_correlation
from deconvnet.models import Network
from deconvnet.progress import progress_bar

#: Squares across and down into which the deletion test divides a view, at most.
_SQUARES_PER_SIDE = 14

#: Steps of the deletion test: it measures at 0, 5, … 100 % of the squares.
_FRACTION_STEPS = 20


def default_occluder(network: Network, stride: int) -> Occluder:
    """The paper's occluder, or a quarter of the view if that is smaller.

    Raises `UsageError` if it has only one position in the view.
    """
    height, width = network.input_shape[1:]
    occluder = Occluder(min(Occluder().size, max(1, min(height, width) // 4)), stride)
    if len(occluder.corners(height, width)) < 2:
        raise UsageError(
            f"With steps of {stride} pixels an occluder has one position in a view of {height}×{width}: pass a smaller "
            "stride."
        )
    return occluder


def randomise_occlusion_maps(
    network: Network,
    inputs: Sequence[Tensor],
    groups: Sequence[ModuleGroup],
    occluder: Occluder,
    draws: int,
    seed: int,
    batch_size: int,
    progress: bool = False,
) -> RandomisationCurve:
    """The rank correlation (measure "maps") of occlusion maps with the original ones, as weights are randomised.

    A map is the log-probability of the class that the original network predicts for the whole image, also for randomised
    networks. `inputs` are (C, H, W) each.
    """
    view_size = network.input_shape[1:]
    corners, map_size = occluder.corners(*view_size), [len(occluder.starts(length)) for length in view_size]
    targets = [predict_class(network, x) for x in inputs]

    def occlusion_maps(variant: Network) -> dict[str, list[Tensor]]:
        log_probabilities = [
            _log_probabilities(variant, x, target, occluder, corners, batch_size)
            for x, target in zip(inputs, targets, strict=True)
        ]
        return {"maps": [values.view(map_size) for values in log_probabilities]}

    def compare(first: Tensor, second: Tensor) -> dict[str, float]:
        return {"maps": rank_correlation(first.numpy(), second.numpy())}

    with progress_bar("occluding", draws * len(groups) * len(inputs), progress) as advance:
        curves = randomisation_curves(network, groups, draws, seed, occlusion_maps, compare, ("maps",), advance)
    return curves["maps"]


def deletion_test(
    network: Network, inputs: Sequence[Tensor], draws: int, seed: int, batch_size: int, progress: bool = False
) -> DeletionCurve:
    """Occlude an image square by square and measure the probability of its class (Petsiuk et al. 2018).

    Three orders of the squares are compared: the most important first, the nearest to the centre first, and the mean over
    `draws` random orders. The importance of a square is how far an occluder around it, three squares wide and shifted inside
    the view, lowers the probability; a single square hides too little to tell. The class is the one that the network
    predicts for the whole image. `inputs` are (C, H, W) each.
    """
    size = torch.tensor(network.input_shape[1:])
    side = -(-int(size.max()) // _SQUARES_PER_SIDE)
    # The last square of a row or a column may be cut off by the border.
    squares = torch.cartesian_prod(*(torch.arange(0, length, side) for length in size.tolist()))
    occluder = Occluder(min(int(size.min()), 3 * side), side)
    occluder_corners = (squares - side).clamp(min=0).minimum(size - occluder.size)
    rng, fractions = np.random.default_rng(seed), np.linspace(0, 1, _FRACTION_STEPS + 1)
    from_the_centre = ((squares + side / 2 - size / 2) ** 2).sum(dim=1).argsort(stable=True)
    curves: dict[str, list[np.ndarray]] = {"by_map": [], "from_the_centre": [], "at_random": []}
    with progress_bar("deleting", len(inputs), progress) as advance:
        for x in inputs:
            target = predict_class(network, x)
            by_map = _log_probabilities(network, x, target, occluder, occluder_corners, batch_size).argsort(stable=True)
            random_orders = [torch.from_numpy(rng.permutation(len(squares))) for _ in range(draws)]
            probabilities = [
                _deletion_probabilities(network, x, target, squares[order], side, fractions, batch_size)
                for order in (by_map, from_the_centre, *random_orders)
            ]
            curves["by_map"].append(probabilities[0])
            curves["from_the_centre"].append(probabilities[1])
            curves["at_random"].append(np.mean(probabilities[2:], axis=0))
            advance(1)
    return DeletionCurve(fractions.tolist(), **{name: np.stack(values) for name, values in curves.items()})


def _deletion_probabilities(
    network: Network, x: Tensor, target: int, squares: Tensor, side: int, fractions: np.ndarray, batch_size: int
) -> np.ndarray:
    """(fractions,) the probability of class `target` with the first squares (upper left corners) set to 0, the mean."""
    occluded = x.repeat(len(fractions), 1, 1, 1)
    for occluded_x, fraction in zip(occluded, fractions, strict=True):
        for row, column in squares[: round(fraction * len(squares))].tolist():
            occluded_x[:, row : row + side, column : column + side] = 0
    probabilities = [network.probabilities(batch)[:, target] for batch in torch.split(occluded, batch_size)]
    return torch.cat(probabilities).cpu().double().numpy()


def _log_probabilities(
    network: Network, x: Tensor, target: int, occluder: Occluder, corners: Tensor, batch_size: int
) -> Tensor:
    """(N,) of class `target` with the occluder at each of `corners` (N, 2).

    Unlike probabilities, they tell positions apart where the probability rounds to 1.
    """
    layer = list(network.layers)[-1]  # the unit's activation is not used
    return forward_occluded_in_batches(network, x, occluder, corners, layer, 0, batch_size)[1][:, target]
