"""What occlusion maps depend on, and whether they are right: randomised networks, and photos covered in the maps' order."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import predicted
from deconvnet.experiments.fig7_occlusion.compute import occluded_scores
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, RandomisationCurve
from deconvnet.experiments.sanity_checks.randomisation import Step, cascade
from deconvnet.experiments.sanity_checks.similarity import rank_correlation
from deconvnet.models import Network
from deconvnet.progress import bar

#: A view is divided into so many squares across and down, or a few less, which the deletion test covers one after the other.
_SQUARES = 14

#: Shares of them after which the class's probability is read: 0, 5 % … 100 %.
_SHARES = 20


def occluder_for(network: Network, stride: int) -> Occluder:
    """The paper's, or a quarter of a view that is small. Raises `UsageError` if it has one position only."""
    crop = network.preprocessing.crop
    occluder = Occluder(min(Occluder().size, max(1, crop // 4)), stride)
    if len(occluder.starts(crop)) < 2:
        raise UsageError(
            f"With steps of {stride} pixels an occluder has one position in a view of {crop}: pass a smaller stride."
        )
    return occluder


def randomise_maps(
    network: Network,
    inputs: Sequence[Tensor],
    steps: Sequence[Step],
    occluder: Occluder,
    draws: int,
    seed: int,
    batch_size: int,
    progress: bool = False,
) -> RandomisationCurve:
    """How like the original occlusion maps stay as the parts of one more step are made random each time: the measure "maps",
    their rank correlation.

    A map is of the logarithm of the probability of the class that the network said at first, with every network.
    """
    crop = network.preprocessing.crop
    corners, side = occluder.corners(crop), len(occluder.starts(crop))
    targets = [predicted(network, x) for x in inputs]

    def maps(of: Network) -> list[np.ndarray]:
        found = zip(inputs, targets, strict=True)
        scores = [_log_probabilities(of, x, target, occluder, corners, batch_size) for x, target in found]
        return [score.view(side, side).numpy() for score in scores]

    originals = maps(network)
    pictures = [originals[0]]
    values = np.empty((len(inputs), draws, len(steps)))
    ends: list[list[np.ndarray]] = []
    with bar("occluding", draws * len(steps) * len(inputs), progress) as advance:
        for draw in range(draws):
            now = originals
            for step, random in enumerate(cascade(network, steps, seed, draw)):
                now = maps(random)
                values[:, draw, step] = [rank_correlation(*pair) for pair in zip(originals, now, strict=True)]
                if draw == 0:
                    pictures.append(now[0])
                advance(len(inputs))
            ends.append(now)
    unrelated = np.array([[rank_correlation(*pair) for pair in combinations(photo, 2)] for photo in zip(*ends, strict=True)])
    return RandomisationCurve(list(steps), pictures, {"maps": values}, {"maps": unrelated})


def delete(
    network: Network, inputs: Sequence[Tensor], draws: int, seed: int, batch_size: int, progress: bool = False
) -> DeletionCurve:
    """Cover each photo square by square, those that matter most to the class first; beside that, those nearest to the centre
    first, and in random orders, of which `draws` are averaged (Petsiuk et al. 2018).

    How much a square matters is how far the class's probability falls when it is covered with those around it, by a window
    three squares wide that is moved inside at the border; one alone hides too little to tell. The class is the one that the
    network says of the whole photo.
    """
    crop = network.preprocessing.crop
    side = -(-crop // _SQUARES)
    starts = torch.arange(0, crop, side)  # the last may be cut off by the border
    corners, wide = torch.cartesian_prod(starts, starts), Occluder(min(crop, 3 * side), side)
    around = (corners - side).clamp(0, crop - wide.size)
    random, shares = np.random.default_rng(seed), np.linspace(0, 1, _SHARES + 1)
    from_the_centre = ((corners + side / 2 - crop / 2) ** 2).sum(dim=1).argsort(stable=True)
    curves: dict[str, list[np.ndarray]] = {"by_map": [], "from_the_centre": [], "at_random": []}
    with bar("deleting", len(inputs), progress) as advance:
        for x in inputs:
            target = predicted(network, x)
            first = _log_probabilities(network, x, target, wide, around, batch_size).argsort(stable=True)
            orders = [torch.from_numpy(random.permutation(len(corners))) for _ in range(draws)]
            found = [
                _covered(network, x, target, corners[order], side, shares, batch_size)
                for order in (first, from_the_centre, *orders)
            ]
            for name, curve in zip(curves, (found[0], found[1], np.mean(found[2:], axis=0)), strict=True):
                curves[name].append(curve)
            advance(1)
    return DeletionCurve(shares.tolist(), **{name: np.stack(each) for name, each in curves.items()})


def _covered(
    network: Network, x: Tensor, target: int, corners: Tensor, side: int, shares: np.ndarray, batch_size: int
) -> np.ndarray:
    """(shares,) the probability of the class with the first squares covered by the mean."""
    versions = x.repeat(len(shares), 1, 1, 1)
    for version, share in zip(versions, shares, strict=True):
        for row, column in corners[: round(share * len(corners))].tolist():
            version[:, row : row + side, column : column + side] = 0
    found = [network.probabilities(part)[:, target] for part in torch.split(versions, batch_size)]
    return torch.cat(found).double().cpu().numpy()


def _log_probabilities(
    network: Network, x: Tensor, target: int, occluder: Occluder, corners: Tensor, batch_size: int
) -> Tensor:
    """(positions,) of the class, which tell places apart where the probability itself is 1 but for rounding."""
    layer = list(network.layers)[-1]
    return occluded_scores(network, x, occluder, corners, layer, 0, batch_size)[1][:, target]
