"""Compute the sanity checks: compare a network's projections and occlusion maps with those of randomised weights."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deconvnet.data import Inputs, find_items
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import class_name, count_classes, predict_class
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.experiments.sanity_checks.occlusion_maps import default_occluder, deletion_test, randomise_occlusion_maps
from deconvnet.experiments.sanity_checks.randomisation import group_modules, influential_modules, randomisation_curves
from deconvnet.experiments.sanity_checks.result import SanityCheck
from deconvnet.experiments.sanity_checks.similarity import MEASURES, projection_similarities
from deconvnet.models import Network
from deconvnet.progress import progress_bar
from deconvnet.projection import RULES, project_batch, rule_set, strongest_position, strongest_unit


def check_sanity(
    network: Network,
    images: Inputs,
    layer: str = "",
    *,
    rules: Sequence[str] = tuple(RULES),
    draws: int = 3,
    stride: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> SanityCheck:
    """Measure how projections and occlusion maps depend on the network's weights.

    The submodules on which `layer` (default: the last convolutional one) depends are randomised one after another, from the
    top down (in 16 groups if there are more), see `randomisation.cascading_randomisation`. After each step the layer's
    strongest unit is projected by each of `rules`, at the position of the original network's strongest activation in the
    image. So all projections of an image have the same receptive field, and are compared within its part inside the
    image. The strongest unit may change, but a unit of a randomised layer has no identity that could be kept.

    For occlusion maps all weights are randomised, from the classifier down. A map is the log-probability of the class that
    the original network predicts, for an occluder in steps of `stride` pixels. Occlusion maps are also checked by
    `occlusion_maps.deletion_test`. A network without a classifier has neither.

    There are `draws` cascades, each with other random numbers. The baseline is the similarity of any two of them with all
    weights randomised.

    Raises `UsageError` for an unknown layer or rule set and numbers out of range, `DeconvnetError` if an image cannot be
    read or the layer depends on no weights.
    """
    image_set = find_items(images)
    if draws < 2:
        raise UsageError(f"{draws} draws are too few: unrelated weights need 2 or more.")
    if stride < 1 or batch_size < 1:
        raise UsageError(f"Steps and photos at once are 1 or more, not {stride} and {batch_size}.")
    rules = list(dict.fromkeys(rules))
    if not rules:
        raise UsageError(f"There are no rules to project by: pass some of {', '.join(RULES)}.")
    for rule_name in rules:
        rule_set(rule_name)
    layer = layer or (network.convolutional_layers or list(network.layers))[-1]
    network.layer(layer)
    occluder = None
    if network.classifies:
        count_classes(network)
        occluder = default_occluder(network, stride)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    layer_groups = group_modules(influential_modules(network, layer, progress))
    positions = [_strongest_position(network, x, layer) for x in inputs]
    projections = partial(_projections, inputs=inputs, layer=layer, positions=positions, rules=rules)
    with progress_bar("randomising", draws * len(layer_groups) * len(inputs), progress) as advance:
        projection_curves = randomisation_curves(
            network, layer_groups, draws, seed, projections, projection_similarities, MEASURES, advance
        )
    occlusion_curve, deletion_curve, class_names = None, None, None
    if occluder is not None:
        class_names = [class_name(network, predict_class(network, x)) for x in inputs]
        groups = group_modules(influential_modules(network, progress=progress))
        occlusion_curve = randomise_occlusion_maps(network, inputs, groups, occluder, draws, seed, batch_size, progress)
        deletion_curve = deletion_test(network, inputs, draws, seed, batch_size, progress)
    return SanityCheck(
        network=network.full_name,
        sha256=network.digest,
        layer=layer,
        image_set=image_set,
        positions=positions,
        first_view=channels_as_rgb(network.show(inputs[0][None]))[0],
        first_box=network.layer(layer).field.clipped_box(*positions[0]),
        projection_curves=projection_curves,
        class_names=class_names,
        occluder=occluder,
        occlusion_curve=occlusion_curve,
        deletion_curve=deletion_curve,
        draws=draws,
        seed=seed,
        shown_as=network.input_space.shown_as,
    )


def write_sanity(out: Path, network: Network, images: Inputs, layer: str = "", **options: Any) -> SanityCheck:
    """Write `sanity.png` and `sanity.json` to the new folder `out`; see `check_sanity`."""
    with open_result_folder(out) as work:
        result = check_sanity(network, images, layer, **options)
        save(result, work, "sanity")
    return result


def _strongest_position(network: Network, x: Tensor, layer: str) -> tuple[int, int]:
    """The row and column of the strongest activation of any unit of `layer` for x (C, H, W)."""
    maps = network.activations(x[None], layer).reshape(1, -1, *network.layer(layer).map_size)
    maxima = maps.amax(dim=1, keepdim=True)
    row, column = strongest_position(maxima, maxima.new_zeros(1, dtype=torch.int64))[0].tolist()
    return row, column


def _projections(
    network: Network,
    inputs: Sequence[Tensor],
    layer: str,
    positions: Sequence[tuple[int, int]],
    rules: Sequence[str],
) -> dict[str, list[Tensor]]:
    """By rule set and image, the projection of the strongest unit at a position: (3, h, w).

    It is cropped to the part of the receptive field that is inside the image: what `ProjectionBatch.crop` adds at borders is
    zero in all projections and would make them similar. The signal starts from 1, not from the activation; where no unit is
    active the projection is all zero.
    """
    projections: dict[str, list[Tensor]] = {rule_name: [] for rule_name in rules}
    for x, position in zip(inputs, positions, strict=True):
        units = torch.tensor([strongest_unit(network, x[None], layer, position)])
        box = network.layer(layer).field.clipped_box(*position)
        for rule_name in rules:
            batch = project_batch(network, x[None], layer, units, torch.tensor([position]), "one", rule_name)
            pixels = batch.pixels[0, :, box.top : box.bottom, box.left : box.right]
            projections[rule_name].append(pixels.float().cpu())
    return projections
