"""Compute Fig. 5: transform images and measure how features and class probabilities change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import Inputs, find_items
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import check_finite, class_name, count_classes, find_class, predict_class
from deconvnet.experiments.fig5_invariance.curves import Curves
from deconvnet.experiments.fig5_invariance.result import Invariance
from deconvnet.experiments.fig5_invariance.transforms import TRANSFORMATIONS, Transformation
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.models import Network
from deconvnet.progress import progress_bar

#: Images whose transformed views the figure shows, at most; all images have curves.
_MAX_SHOWN_IMAGES = 5


def measure_invariance(
    network: Network,
    images: Inputs,
    label: str = "",
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> Invariance:
    """Transform images as in Fig. 5, and measure the features of the first and last hidden layer and a class's probability.

    Images are transformed as the network sees them, the crop x of its evaluation view, and vacated pixels are 0 in the
    network's input: the mean of its training images. The distance is that of feature vectors f (all activations of a layer)
    scaled to length 1,

        d(x, x′) = ‖ f(x)/‖f(x)‖ − f(x′)/‖f(x′)‖ ‖

    from 0 to √2, as activations are never negative: √2 is no activation in common. The paper's "canonical distance" is not
    described; at its last layer it stays within 1.4, as this does. (If no unit is active for one of the two inputs, it is 1;
    for neither, 0.) `label` is the class whose probability is measured for all images, see `class_labels.find_class`;
    without it, it is the most probable one of each untransformed image.

    Translations are in pixels at any size of the view: one of 32 pixels is empty after a translation by 32.

    Raises `DeconvnetError` if an image cannot be read or the network's output is no class scores, `UsageError` for a class
    that the network does not have or a batch size below 1.
    """
    if batch_size < 1:
        raise UsageError(f"{batch_size} photos cannot go through the network at once: pass 1 or more.")
    image_set = find_items(images)
    labelled_class = find_class(network, label) if label else None
    if network.classifies:
        count_classes(network)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    layers = next(iter(network.layers)), next(reversed(network.layers))
    targets: list[int] | None = None
    if network.classifies:
        targets = [labelled_class if labelled_class is not None else predict_class(network, x) for x in inputs]
    curves = {}
    total = len(inputs) * sum(len(transformation.values) for transformation in TRANSFORMATIONS)
    with progress_bar("transforming", total, progress) as advance:
        for transformation in TRANSFORMATIONS:
            rows = []
            for index, x in enumerate(inputs):
                target = None if targets is None else targets[index]
                rows.append(_measure(network, x, transformation, layers, target, batch_size))
                advance(len(transformation.values))
            distances, probability, views = zip(*rows, strict=True)
            curves[transformation.name] = Curves(
                transformation,
                torch.stack(distances, dim=1),
                None if targets is None else torch.stack(probability),
                list(views[:_MAX_SHOWN_IMAGES]),
            )
    classes = None if targets is None else [class_name(network, target) for target in targets]
    return Invariance(
        network.full_name,
        network.digest,
        layers,
        image_set,
        classes,
        labelled_class is not None,
        curves,
        network.input_space.shown_as,
    )


def write_invariance(out: Path, network: Network, images: Inputs, label: str = "", **options: Any) -> Invariance:
    """Write `invariance.png` and `invariance.json` to the new folder `out`; see `measure_invariance`."""
    with open_result_folder(out) as work:
        result = measure_invariance(network, images, label, **options)
        save(result, work, "invariance")
    return result


def _measure(
    network: Network, x: Tensor, transformation: Transformation, layers: Sequence[str], target: int | None, batch_size: int
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Of one image: distances (layers, values), probabilities (values,) of the class `target`, and shown views."""
    inputs = torch.stack([transformation.apply(x, value) for value in transformation.values])
    identity = transformation.values.index(transformation.identity)
    order = [identity, *(index for index in range(len(inputs)) if index != identity)]  # the reference of all goes first
    references: dict[str, Tensor] = {}
    distances = {layer: torch.zeros(len(inputs), dtype=torch.float64) for layer in layers}
    probabilities = torch.zeros(len(inputs), dtype=torch.float64)
    for indices in torch.split(torch.tensor(order), batch_size):

        def compare(layer: str, maps: Tensor, indices: Tensor = indices) -> None:
            features = maps.flatten(1).cpu().double()
            length = features.norm(dim=1, keepdim=True)
            directions = features / length.where(length > 0, 1.0)
            distances[layer][indices] = (directions - references.setdefault(layer, directions[0].clone())).norm(dim=1)

        with torch.inference_mode():
            network.capture(inputs[indices], layers, compare)
        if target is not None:
            probabilities[indices] = network.probabilities(inputs[indices])[:, target].cpu().double()
    check_finite(network, probabilities)
    views = channels_as_rgb(network.show(inputs[list(transformation.shown_indices)]))
    return torch.stack([distances[layer] for layer in layers]), probabilities, views
