"""Make Fig. 5: transform photos and follow what a network makes of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.errors import UsageError
from deconvnet.experiments.class_labels import count_classes, find_class, predicted
from deconvnet.experiments.fig5_invariance.result import PICTURED, Curves, Invariance
from deconvnet.experiments.fig5_invariance.transforms import TRANSFORMATIONS, Transformation
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import write_result
from deconvnet.models import Network
from deconvnet.progress import bar


def transform(
    network: Network,
    images: Iterable[Path | str] | Path | str | ImageSet,
    label: str = "",
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> Invariance:
    """Transform photos as Fig. 5 does, and follow the network's first and last hidden layer and the probability of a class.

    Photos are transformed as the network sees them, the crop x of its evaluation view, and what is vacated is 0 in the
    network's input: the mean of its training photos. The distance is that of feature vectors f (all activations of a layer)
    scaled to length 1,

        d(x, x′) = ‖ f(x)/‖f(x)‖ − f(x′)/‖f(x′)‖ ‖

    from 0 to √2, as activations are never negative: √2 is no activation in common. The paper's "canonical distance" is not
    described; at its last layer it stays within 1.4, as this does. (If no unit is active in one of the photos only, it is 1;
    in neither, 0.) `label` is the class whose probability is followed in all photos, see `labels.find_class`; without it, it
    is the most probable one of each untransformed photo.

    Translations are in pixels, whatever the size of the view: of one of 32 pixels nothing is left after 32.

    Raises `DeconvnetError` if a photo cannot be read or the network's output is no class scores, `UsageError` for a class
    that the network does not have or a senseless batch size.
    """
    if batch_size < 1:
        raise UsageError(f"{batch_size} photos cannot go through the network at once: pass 1 or more.")
    image_set = find_images(images)
    chosen = find_class(network, label) if label else None
    if network.classifies:
        count_classes(network)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    layers = list(network.layers)
    targets = None
    if network.classifies:
        targets = [chosen if chosen is not None else predicted(network, x) for x in inputs]
    curves = {}
    total = len(inputs) * sum(len(transformation.values) for transformation in TRANSFORMATIONS)
    with bar("transforming", total, progress) as advance:
        for transformation in TRANSFORMATIONS:
            rows = []
            for number, x in enumerate(inputs):
                target = None if targets is None else targets[number]
                rows.append(_follow(network, x, transformation, layers[0], layers[-1], target, batch_size))
                advance(len(transformation.values))
            first, last, probability, shown = zip(*rows, strict=True)
            curves[transformation.name] = Curves(
                transformation,
                torch.stack(first),
                torch.stack(last),
                None if targets is None else torch.stack(probability),
                list(shown[:PICTURED]),
            )
    names = None
    if targets is not None:
        names = [network.classes[target][1] if network.classes else f"class {target}" for target in targets]
    return Invariance(
        network.full_name, network.digest, (layers[0], layers[-1]), image_set, names, chosen is not None, curves
    )


def write_invariance(out: Path, network: Network, images: Iterable[Path], label: str = "", **options: Any) -> Invariance:
    """Write `invariance.png` and `invariance.json` to the new folder `out`; see `transform`."""
    return write_result(out, "invariance", lambda work: transform(network, images, label, **options))


def _follow(
    network: Network, x: Tensor, transformation: Transformation, first: str, last: str, target: int | None, batch_size: int
) -> tuple[Tensor, Tensor, Tensor | None, np.ndarray]:
    """Distances at both layers and probabilities (values,) of one photo, and some of its transformed views."""
    views = torch.stack([transformation.apply(x, value) for value in transformation.values])
    start = transformation.values.index(transformation.identity)
    order = [start, *(number for number in range(len(views)) if number != start)]  # what all are compared with goes first
    reference: dict[str, Tensor] = {}
    distances = {name: torch.zeros(len(views), dtype=torch.float64) for name in (first, last)}
    probabilities = torch.zeros(len(views), dtype=torch.float64)
    for rows in torch.split(torch.tensor(order), batch_size):

        def compare(name: str, maps: Tensor, rows: Tensor = rows) -> None:
            features = maps.flatten(1).cpu().double()
            length = features.norm(dim=1, keepdim=True)
            directions = features / length.where(length > 0, 1.0)
            distances[name][rows] = (directions - reference.setdefault(name, directions[0].clone())).norm(dim=1)

        with torch.inference_mode():
            network.capture(views[rows], [first, last], compare)
        if target is not None:
            probabilities[rows] = network.probabilities(views[rows])[:, target].cpu().double()
    shown = network.preprocessing.pixels(views[list(transformation.pictured)])
    return distances[first], distances[last], None if target is None else probabilities, shown
