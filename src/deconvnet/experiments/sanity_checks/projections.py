"""Randomise a network from the top down and see what becomes of its projections (Adebayo et al. 2018)."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import class_name, count_classes, predicted
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import write_result
from deconvnet.experiments.sanity_checks.curves import RandomisationCurve
from deconvnet.experiments.sanity_checks.occlusion_maps import delete, occluder_for, randomise_maps
from deconvnet.experiments.sanity_checks.randomisation import (
    Step,
    cascade,
    steps_down,
    weighted_parts,
)
from deconvnet.experiments.sanity_checks.result import Sanity
from deconvnet.experiments.sanity_checks.similarity import MEASURES, likeness
from deconvnet.models import Network
from deconvnet.progress import bar
from deconvnet.projection import RULES, project_batch, rule_set

_Place = tuple[int, int]


def check_sanity(
    network: Network,
    images: Iterable[Path | str] | Path | str | ImageSet,
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

    The parts on which `layer` (default: the last convolutional one) depends are made random one after the other, from
    the top down (in 16 steps if there are more), see `randomise.cascade`. Each time the layer's strongest unit is
    projected, at the place where the photo's strongest activation was before anything was random. So all projections of
    a photo have one receptive field, and are compared inside of it, as far as it is in the photo. Which unit is
    strongest there changes, as it must: a random unit is no unit in particular. For occlusion maps all parts are made
    random, from the classifier down, and the probability of one class, that which the photo had before, is followed,
    though a random output is no class in particular either; `stride` is between the occluder's positions.
    `check_occlusion.delete` is the deletion test.

    `draws` are cascades of other random numbers; the baseline compares networks of two of them that are random altogether.

    Raises `UsageError` for a layer or a rule set that is not known and senseless numbers, `DeconvnetError` if a photo cannot
    be read or no weights decide about the layer.
    """
    image_set = find_images(images)
    if draws < 2:
        raise UsageError(f"{draws} draws are too few: unrelated weights need 2 or more.")
    if stride < 1 or batch_size < 1:
        raise UsageError(f"Steps and photos at once are 1 or more, not {stride} and {batch_size}.")
    rules = list(dict.fromkeys(rules))
    if not rules:
        raise UsageError(f"There are no rules to project by: pass some of {', '.join(RULES)}.")
    for name in rules:
        rule_set(name)
    layer = layer or (network.convolutional_layers or list(network.layers))[-1]
    network.layer(layer)
    occluder = None
    if network.classifies:
        count_classes(network)
        occluder = occluder_for(network, stride)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    steps = steps_down(weighted_parts(network, layer, progress))
    places = [_strongest(network, x, layer) for x in inputs]
    courses = _randomise_projections(network, inputs, layer, places, rules, steps, draws, seed, progress)
    maps, deletion, classes = None, None, None
    if occluder is not None:
        classes = [class_name(network, predicted(network, x)) for x in inputs]
        down = steps_down(weighted_parts(network, progress=progress))
        maps = randomise_maps(network, inputs, down, occluder, draws, seed, batch_size, progress)
        deletion = delete(network, inputs, draws, seed, batch_size, progress)
    return Sanity(
        network=network.full_name,
        sha256=network.digest,
        layer=layer,
        image_set=image_set,
        places=places,
        view=network.preprocessing.pixels(inputs[0][None])[0],
        box=network.layer(layer).field.clipped_box(*places[0]),
        rules=courses,
        classes=classes,
        occluder=occluder,
        maps=maps,
        deletion=deletion,
        draws=draws,
        seed=seed,
    )


def write_sanity(out: Path, network: Network, images: Iterable[Path], layer: str = "", **options: Any) -> Sanity:
    """Write `sanity.png` and `sanity.json` to the new folder `out`; see `check_sanity`."""
    return write_result(out, "sanity", lambda work: check_sanity(network, images, layer, **options))


def _randomise_projections(
    network: Network,
    inputs: list[Tensor],
    layer: str,
    places: list[_Place],
    rules: Sequence[str],
    steps: list[Step],
    draws: int,
    seed: int,
    progress: bool,
) -> dict[str, RandomisationCurve]:
    """By rule set, how like the original projections stay."""
    originals = _projections(network, inputs, layer, places, rules)
    pictures = {name: [originals[name][0].numpy()] for name in rules}
    values = {name: {measure: np.empty((len(inputs), draws, len(steps))) for measure in MEASURES} for name in rules}
    ends = []
    with bar("randomising", draws * len(steps), progress) as advance:
        for draw in range(draws):
            now = originals
            for step, random in enumerate(cascade(network, steps, seed, draw)):
                now = _projections(random, inputs, layer, places, rules)
                for name in rules:
                    for photo, pair in enumerate(zip(originals[name], now[name], strict=True)):
                        for measure, value in likeness(*pair).items():
                            values[name][measure][photo, draw, step] = value
                    if draw == 0:
                        pictures[name].append(now[name][0].numpy())
                advance(1)
            ends.append(now)
    return {
        name: RandomisationCurve(steps, pictures[name], values[name], _unrelated([end[name] for end in ends]))
        for name in rules
    }


def _strongest(network: Network, x: Tensor, layer: str) -> _Place:
    """Where the strongest of all activations of a layer is."""
    maps = network.activations(x[None], layer)[0]
    maps = maps if maps.dim() == 3 else maps[:, None, None]
    place = int(maps.amax(dim=0).argmax())
    return place // maps.shape[2], place % maps.shape[2]


def _projections(
    network: Network, inputs: list[Tensor], layer: str, places: list[_Place], rules: Sequence[str]
) -> dict[str, list[Tensor]]:
    """By rule set and photo, the layer's strongest activation at a place, projected: (3, h, w), cut to what it sees of the
    photo. It counts as 1, whatever it is; if no unit is active there, there is nothing to project, and all is 0.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in rules}
    for x, place in zip(inputs, places, strict=True):
        maps = network.activations(x[None], layer)[0]
        unit = (maps if maps.dim() == 1 else maps[:, *place]).argmax()[None].cpu()
        box = network.layer(layer).field.clipped_box(*place)
        for name in rules:
            projected = project_batch(network, x[None], layer, unit, torch.tensor([place]), "one", name)
            found[name].append(projected.pixels[0, :, box.top : box.bottom, box.left : box.right].float().cpu())
    return found


def _unrelated(ends: list[list[Tensor]]) -> dict[str, np.ndarray]:
    """By measure (photos, pairs), how alike projections by networks of any two draws are."""
    alike = [[likeness(*pair) for pair in combinations(photo, 2)] for photo in zip(*ends, strict=True)]
    return {measure: np.array([[pair[measure] for pair in photo] for photo in alike]) for measure in MEASURES}
