"""Make Fig. 5: transform photos and follow what a network makes of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.experiments.invariance import Curves, Invariance
from deconvnet.experiments.labels import find_class
from deconvnet.experiments.transformations import TRANSFORMATIONS, Transformation
from deconvnet.experiments.writing import write_result
from deconvnet.images import Photos, UnreadableImage, find_photos
from deconvnet.networks import Network
from deconvnet.progress import bar


def transform(
    network: Network,
    images: Iterable[Path | str] | Path | str | Photos,
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

    Raises `DeconvnetError` if a photo cannot be read, `UsageError` for a class that the network does not have.
    """
    photos = find_photos(images)
    chosen = find_class(network, label) if label else None
    inputs = [_read(network, photos, index) for index in range(len(photos))]
    layers = list(network.layers)
    targets = None
    if network.classifies:
        targets = [chosen if chosen is not None else int(network.probabilities(x[None]).argmax()) for x in inputs]
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
                list(shown),
            )
    names = None
    if targets is not None:
        names = [network.classes[target][1] if network.classes else f"class {target}" for target in targets]
    return Invariance(network.full_name, network.digest, (layers[0], layers[-1]), photos, names, chosen is not None, curves)


def write_invariance(out: Path, network: Network, images: Iterable[Path], label: str = "", **options: Any) -> Invariance:
    """Write `invariance.png` and `invariance.json` to the new folder `out`; see `transform`."""
    return write_result(out, "invariance", lambda work: transform(network, images, label, **options))


def _read(network: Network, photos: Photos, index: int) -> Tensor:
    try:
        return network.preprocess(photos.read(index))
    except UnreadableImage as error:
        raise DeconvnetError(f"{photos.file(index)} {error}.") from None


def _follow(
    network: Network, x: Tensor, transformation: Transformation, first: str, last: str, target: int | None, batch_size: int
) -> tuple[Tensor, Tensor, Tensor | None, np.ndarray]:
    """Distances at both layers and probabilities (values,) of one photo, and some of its transformed views."""
    views = torch.stack([transformation.apply(x, value) for value in transformation.values])
    features: dict[str, list[Tensor]] = {first: [], last: []}
    probabilities = []
    for part in torch.split(views, batch_size):
        with torch.inference_mode():
            network.observe(part, [first, last], lambda name, maps: features[name].append(maps.flatten(1).cpu().clone()))
        if target is not None:
            probabilities.append(network.probabilities(part)[:, target].double().cpu())
    start = transformation.values.index(transformation.identity)
    distances = [_distances(torch.cat(features[name]), start) for name in (first, last)]
    shown = network.preprocessing.pixels(views[list(transformation.pictured)])
    return distances[0], distances[1], torch.cat(probabilities) if probabilities else None, shown


def _distances(features: Tensor, start: int) -> Tensor:
    """Of each row of (values, features) from row `start`, all scaled to length 1; a row of zeros stays as it is."""
    features = features.double()
    length = features.norm(dim=1, keepdim=True)
    directions = features / length.where(length > 0, 1.0)
    return (directions - directions[start]).norm(dim=1)
