"""Randomise a network from the top down and see what becomes of its projections (Adebayo et al. 2018)."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.check_occlusion import delete, randomised_maps
from deconvnet.experiments.labels import count_classes
from deconvnet.experiments.randomise import cascade, weighted_parts
from deconvnet.experiments.sanity import MEASURES, Likeness, Sanity
from deconvnet.experiments.similarity import likeness
from deconvnet.experiments.writing import write_result
from deconvnet.images import Photos, UnreadableImage, find_photos
from deconvnet.networks import Network
from deconvnet.progress import bar
from deconvnet.projection import RULES, project_each, rule_set

_Place = tuple[int, int]


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

    The parts on which `layer` (default: the last convolutional one) depends are made random one after the other, from the
    top down, see `randomise.cascade`. Each time the layer's strongest unit is projected, at the place where the photo's
    strongest activation was before anything was random. So all projections of a photo have one receptive field, and are
    compared inside of it. Which unit is strongest there changes, as it must: a random unit is no unit in particular. For
    occlusion maps all parts are made random, from the classifier down, and the probability of one class, that which
    the photo had before, is followed; `stride` is between the occluder's positions. `check_occlusion.delete` is the
    deletion test.

    `draws` are cascades of other random numbers; the baseline compares networks of two of them that are random altogether.

    Raises `UsageError` for a layer or a rule set that is not known and senseless numbers, `DeconvnetError` if a photo cannot
    be read.
    """
    photos = find_photos(images)
    if draws < 2:
        raise UsageError(f"{draws} draws are too few: unrelated weights need 2 or more.")
    if stride < 1 or batch_size < 1:
        raise UsageError(f"Steps and photos at once are 1 or more, not {stride} and {batch_size}.")
    for name in rules:
        rule_set(name)
    layer = layer or (network.convolutional_layers or list(network.layers))[-1]
    network.layer(layer)
    if network.classifies:
        count_classes(network)
    inputs = [_read(network, photos, index) for index in range(len(photos))]
    parts = weighted_parts(network, layer)
    places = [_strongest(network, x, layer) for x in inputs]
    compared = {}
    pictures = {}
    with bar("randomising", len(rules) * draws * len(parts), progress) as advance:
        for name in rules:
            originals = _projections(network, inputs, layer, places, name)
            pictures[name] = [originals[0]]
            values = {measure: np.empty((len(inputs), draws, len(parts))) for measure in MEASURES}
            ends = []
            for draw in range(draws):
                now = originals
                for step, random in enumerate(cascade(network, parts, seed + draw)):
                    now = _projections(random, inputs, layer, places, name)
                    for photo, pair in enumerate(zip(originals, now, strict=True)):
                        for measure, value in likeness(*pair).items():
                            values[measure][photo, draw, step] = value
                    if draw == 0:
                        pictures[name].append(now[0])
                    advance(1)
                ends.append(now)
            compared[name] = Likeness(values, _baseline(ends))
    occlusion, deletion = None, None
    if network.classifies:
        occlusion = randomised_maps(network, inputs, stride, draws, seed, batch_size, progress)
        deletion = delete(network, inputs, batch_size, seed, progress)
    return Sanity(
        network=network.full_name,
        sha256=network.digest,
        layer=layer,
        parts=parts,
        photos=photos,
        rules=compared,
        pictures=pictures,
        occlusion_parts=weighted_parts(network) if network.classifies else [],
        occlusion=occlusion,
        deletion=deletion,
        draws=draws,
        seed=seed,
    )


def write_sanity(out: Path, network: Network, images: Iterable[Path], layer: str = "", **options: Any) -> Sanity:
    """Write `sanity.png` and `sanity.json` to the new folder `out`; see `check_sanity`."""
    return write_result(out, "sanity", lambda work: check_sanity(network, images, layer, **options))


def _strongest(network: Network, x: Tensor, layer: str) -> _Place:
    """Where the strongest of all activations of a layer is."""
    maps = network.activations(x[None], layer)[0]
    maps = maps if maps.dim() == 3 else maps[:, None, None]
    place = int(maps.amax(dim=0).argmax())
    return place // maps.shape[2], place % maps.shape[2]


def _projections(network: Network, inputs: list[Tensor], layer: str, places: list[_Place], rules: str) -> list[Tensor]:
    """Of each photo the layer's strongest activation at a place, projected: (3, h, w), cut to the receptive field.

    It counts as 1, so that a unit that is not active is projected like any other.
    """
    found = []
    for x, place in zip(inputs, places, strict=True):
        maps = network.activations(x[None], layer)[0]
        unit = (maps if maps.dim() == 1 else maps[:, *place]).argmax()
        projected = project_each(network, x[None], layer, unit[None].cpu(), torch.tensor([place]), "one", rules)
        box = network.layer(layer).field.picture_box(*place)
        found.append(projected.pixels[0, :, box.top : box.bottom, box.left : box.right].float().cpu())
    return found


def _baseline(ends: list[list[Tensor]]) -> dict[str, float]:
    """The mean likeness of projections by networks that are random altogether, over pairs of draws."""
    found: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for one, other in combinations(ends, 2):
        for before, after in zip(one, other, strict=True):
            for measure, value in likeness(before, after).items():
                found[measure].append(value)
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else np.nan for name, values in found.items()}


def _read(network: Network, photos: Photos, index: int) -> Tensor:
    try:
        return network.preprocess(photos.read(index))
    except UnreadableImage as error:
        raise DeconvnetError(f"{photos.file(index)} {error}.") from None
