"""Randomise a network from the top down and see what becomes of its pictures (Adebayo et al. 2018), and cover photos by the
order of their occlusion maps (Petsiuk et al. 2018).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.labels import count_classes
from deconvnet.experiments.occlude import occluded_scores
from deconvnet.experiments.occluders import Occluder
from deconvnet.experiments.randomise import cascade
from deconvnet.experiments.sanity import MEASURES, Deletion, Likeness, Sanity
from deconvnet.experiments.similarity import likeness, rank_correlation
from deconvnet.experiments.writing import write_result
from deconvnet.images import Photos, UnreadableImage, find_photos
from deconvnet.networks import Network
from deconvnet.progress import bar
from deconvnet.projection import RULES, project_each

#: Shares of the positions that are covered in the deletion test.
_SHARES = 20


def check_sanity(
    network: Network,
    images: Iterable[Path | str] | Path | str | Photos,
    layer: str = "",
    *,
    rules: Sequence[str] = tuple(RULES),
    draws: int = 3,
    stride: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> Sanity:
    """See what projections and occlusion maps depend on.

    Weights are made random part by part, from `layer` (default: the last convolutional one) down, see `randomise.cascade`.
    Each time the layer's strongest unit is projected, at the place where the photo's strongest activation was before
    anything was random: so all projections of a photo have one receptive field, and are compared inside of it. Which unit is
    strongest there changes, as it must: a random unit is no unit in particular. For occlusion maps all parts are made random,
    from the classifier down, and the probability of one class, that which the photo had before, is followed.

    `draws` are cascades of other random numbers; the baseline compares networks of two of them that are random altogether. The
    deletion test covers the positions of an occlusion map, of a square in steps of its own width, one after the other.

    Raises `UsageError` for a layer or a rule set that is not known and senseless numbers, `DeconvnetError` if a photo cannot
    be read.
    """
    photos = find_photos(images)
    if draws < 2:
        raise UsageError(f"{draws} draws are too few: unrelated weights need 2 or more.")
    layer = layer or (network.convolutional_layers or list(network.layers))[-1]
    inputs = [_read(network, photos, index) for index in range(len(photos))]
    places = [_strongest(network, x, layer) for x in inputs]
    originals = {
        name: [_project(network, x, layer, place, name) for x, place in zip(inputs, places, strict=True)] for name in rules
    }
    pictures = {name: [found[0]] for name, found in originals.items()}
    ends: dict[str, list[list[Tensor]]] = {name: [] for name in rules}
    likenesses: dict[str, dict[str, list[list[list[float]]]]] = {
        name: {measure: [[] for _ in inputs] for measure in MEASURES} for name in rules
    }
    parts: list[str] = []
    with bar("randomising", draws * len(inputs), progress) as advance:
        for draw in range(draws):
            parts = []
            for name in rules:
                for measure in MEASURES:
                    for photo in likenesses[name][measure]:
                        photo.append([])
            for part, random in _below(network, layer, seed + draw):
                parts.append(part)
                for name in rules:
                    now = [_project(random, x, layer, place, name) for x, place in zip(inputs, places, strict=True)]
                    for number, (before, after) in enumerate(zip(originals[name], now, strict=True)):
                        for measure, value in likeness(before, after).items():
                            likenesses[name][measure][number][-1].append(value)
                    if draw == 0:
                        pictures[name].append(now[0])
                    end = now
                    if len(ends[name]) <= draw:
                        ends[name].append(end)
                    ends[name][draw] = end
            advance(len(inputs))
    found = {
        name: Likeness({measure: np.array(values) for measure, values in likenesses[name].items()}, _baseline(ends[name]))
        for name in rules
    }
    occlusion_parts, maps, deletion = _occlusion(network, inputs, stride, draws, seed, batch_size, progress)
    return Sanity(
        network.full_name,
        network.digest,
        layer,
        parts,
        photos,
        found,
        pictures,
        occlusion_parts,
        maps,
        deletion,
        draws,
        seed,
    )


def write_sanity(out: Path, network: Network, images: Iterable[Path], layer: str = "", **options: Any) -> Sanity:
    """Write `sanity.png` and `sanity.json` to the new folder `out`; see `check_sanity`."""
    return write_result(out, "sanity", lambda work: check_sanity(network, images, layer, **options))


def _below(network: Network, layer: str, seed: int) -> Iterator[tuple[str, Network]]:
    """The cascade from the layer down: what is above has no part in its activations."""
    size = network.preprocessing.crop
    x = torch.full((1, 3, size, size), 0.5)
    before = network.activations(x, layer)
    started = False
    for part, random in cascade(network, seed):
        started = started or not torch.equal(random.activations(x, layer), before)
        if started:
            yield part, random


def _strongest(network: Network, x: Tensor, layer: str) -> tuple[int, int]:
    """Where the strongest of all activations of a layer is."""
    maps = network.activations(x[None], layer)[0]
    maps = maps if maps.dim() == 3 else maps[:, None, None]
    place = int(maps.amax(dim=0).argmax())
    return place // maps.shape[2], place % maps.shape[2]


def _project(network: Network, x: Tensor, layer: str, place: tuple[int, int], rules: str) -> Tensor:
    """The layer's strongest activation at a place, projected: (3, h, w), cut to the receptive field; it counts as 1."""
    maps = network.activations(x[None], layer)[0]
    unit = (maps if maps.dim() == 1 else maps[:, *place]).argmax()
    position = torch.tensor([place])
    found = project_each(network, x[None], layer, unit[None].cpu(), position, "one", rules)
    box = network.layer(layer).field.picture_box(*place)
    return found.pixels[0, :, box.top : box.bottom, box.left : box.right].float().cpu()


def _baseline(ends: list[list[Tensor]]) -> dict[str, float]:
    """The mean likeness of projections by networks that are random altogether, of neighbouring draws."""
    found: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for one, other in zip(ends, [*ends[1:], ends[0]], strict=True):
        for before, after in zip(one, other, strict=True):
            for measure, value in likeness(before, after).items():
                found[measure].append(value)
    return {
        measure: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for measure, values in found.items()
    }


def _occlusion(
    network: Network, inputs: list[Tensor], stride: int, draws: int, seed: int, batch_size: int, progress: bool
) -> tuple[list[str], np.ndarray | None, Deletion | None]:
    """Occlusion maps under randomisation, and the deletion test of the original ones."""
    if not network.classifies:
        return [], None, None
    count_classes(network)
    crop = network.preprocessing.crop
    occluder = Occluder(size=max(1, min(50, crop // 4)), stride=stride)
    starts = torch.tensor(occluder.starts(crop))
    corners = torch.cartesian_prod(starts, starts)
    layer, targets, originals = list(network.layers)[-1], [], []
    for x in inputs:
        targets.append(int(network.probabilities(x[None]).argmax()))
        originals.append(occluded_scores(network, x, occluder, corners, layer, 0, batch_size)[1][:, targets[-1]].numpy())
    correlations: list[list[list[float]]] = [[] for _ in inputs]
    parts: list[str] = []
    with bar("occluding", draws, progress) as advance:
        for draw in range(draws):
            for photo in correlations:
                photo.append([])
            parts = []
            for part, random in cascade(network, seed + draw):
                parts.append(part)
                for number, (x, target) in enumerate(zip(inputs, targets, strict=True)):
                    now = occluded_scores(random, x, occluder, corners, layer, 0, batch_size)[1][:, target].numpy()
                    correlations[number][-1].append(rank_correlation(originals[number], now))
            advance(1)
    return parts, np.array(correlations), _deletion(network, inputs, targets, batch_size, seed)


def _deletion(network: Network, inputs: list[Tensor], targets: list[int], batch_size: int, seed: int) -> Deletion:
    crop = network.preprocessing.crop
    side = max(1, crop // 14)
    occluder = Occluder(size=side, stride=side)
    wide = Occluder(size=min(crop, 3 * side), stride=side)  # importance is measured by a square that covers enough to matter
    starts = torch.tensor(occluder.starts(crop))
    corners = torch.cartesian_prod(starts, starts)
    centred = (corners - side).clamp(0, crop - wide.size)
    random = np.random.default_rng(seed)
    shares = np.linspace(0, 1, _SHARES + 1)
    layer = list(network.layers)[-1]
    by_map, at_random = [], []
    for x, target in zip(inputs, targets, strict=True):
        importance = -occluded_scores(network, x, wide, centred, layer, 0, batch_size)[1][:, target]
        order = importance.argsort(descending=True, stable=True)
        for kept, chosen in ((by_map, order), (at_random, torch.from_numpy(random.permutation(len(corners))))):
            covered = x.repeat(len(shares), 1, 1, 1)
            for version, share in zip(covered, shares, strict=True):
                for row, column in corners[chosen[: round(share * len(corners))]].tolist():
                    version[:, row : row + side, column : column + side] = 0
            found = [network.probabilities(part)[:, target].cpu() for part in torch.split(covered, batch_size)]
            kept.append(torch.cat(found).double().numpy())
    return Deletion(shares.tolist(), np.array(by_map), np.array(at_random))


def _read(network: Network, photos: Photos, index: int) -> Tensor:
    try:
        return network.preprocess(photos.read(index))
    except UnreadableImage as error:
        raise DeconvnetError(f"{photos.file(index)} {error}.") from None
