"""One pass over a set of photos that fills all layers (section 4)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.images import Photos, batches, find_photos
from deconvnet.mining.hits import LayerHits, Mined
from deconvnet.mining.statistics import Statistics
from deconvnet.mining.strongest import Strongest
from deconvnet.networks import Network
from deconvnet.progress import bar


def mine(
    network: Network,
    images: Path | str | Iterable[Path | str] | Photos,
    layers: Sequence[str] | None = None,
    top: int = 9,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> Mined:
    """Find the `top` strongest activations of every unit, at most one per photo, and each unit's statistics.

    `images` is a folder (flat, or one level of class folders), a list of files or `Photos`; `layers` are names of the
    network's layers (default: the convolutional ones). Hits are ordered by value, descending, then by relative path. In
    each photo a unit's strongest activation is taken, the first in row-major order among equals. Memory does not grow with
    the number of photos, and neither `batch_size` nor `workers` (threads that decode) changes the answer beyond rounding.

    Raises `UsageError` for an unknown layer or a senseless number, `DeconvnetError` if no photo can be read or the network
    gives NaN.
    """
    if top < 1 or batch_size < 1:
        raise UsageError(f"top = {top} and batch_size = {batch_size}: both must be 1 or more.")
    photos = find_photos(images)
    found = [network.layer(name) for name in (network.convolutional_layers if layers is None else layers)]
    strongest = {layer.name: Strongest(layer.units, top, network.device) for layer in found}
    statistics = {layer.name: Statistics(layer.units, len(photos.classes)) for layer in found}
    numbers = {name: number for number, name in enumerate(photos.classes)}
    labels = torch.tensor([numbers.get(label, -1) for label in photos.labels])
    skipped: dict[int, str] = {}

    with bar("mining", len(photos), progress) as advance, torch.inference_mode():
        for batch in batches(photos, network.preprocess, batch_size, workers):
            skipped |= batch.skipped
            if len(batch.rows):

                def reduce(name: str, maps: Tensor, rows: Tensor = batch.rows, images: Tensor = batch.images) -> None:
                    maxima, places = maps.flatten(2).max(dim=2)  # the first among equals
                    maxima, places = maxima[rows.to(maps.device)], places[rows.to(maps.device)]
                    if maxima.isnan().any():
                        raise DeconvnetError(f"{name} of {network.full_name} gives NaN: its weights are damaged.")
                    strongest[name].add(maxima.T, images.to(maps.device), places.T)
                    statistics[name].add(maxima.cpu(), labels[images])

                network.observe(batch.inputs, strongest, reduce)
            advance(len(batch.rows) + len(batch.skipped))

    if len(skipped) == len(photos):
        index, reason = next(iter(skipped.items()))
        raise DeconvnetError(
            f"None of the {len(photos)} photos in {photos.root} can be read: {photos.paths[index]} {reason}."
        )
    for kept in strongest.values():
        kept.values, kept.images, kept.places = kept.values.cpu(), kept.images.cpu(), kept.places.cpu()
    return Mined(
        photos,
        {layer.name: LayerHits(layer, photos, strongest[layer.name], statistics[layer.name]) for layer in found},
        top,
        skipped,
    )
