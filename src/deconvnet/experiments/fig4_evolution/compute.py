"""Make Fig. 4: mine and project at every snapshot of a training run, and compare the snapshots."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.atlas.project_units import picture_size, project_units
from deconvnet.data import ImageSet, find_images
from deconvnet.errors import UsageError
from deconvnet.experiments.fig4_evolution.convergence import similarity
from deconvnet.experiments.fig4_evolution.result import Evolution, LayerEvolution
from deconvnet.experiments.fig4_evolution.snapshots import open_snapshots
from deconvnet.experiments.result import write_result
from deconvnet.mining import (
    Hit,
    LayerHits,
    MiningResult,
    mine,
)
from deconvnet.models import Network
from deconvnet.progress import say

#: Photos, drawn at random, on which the units of two snapshots are compared.
COMPARED = 200

#: One layer at one epoch: hits, projections (units, 3, h, w), median similarity, share of strongest photos that stay.
_Column = tuple[list[Hit | None], Tensor, float, float]


def evolve(
    run: Path | str,
    images: Path | str | Iterable[Path | str] | ImageSet,
    units: int = 6,
    *,
    seed: int = 0,
    states: Path | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> Evolution:
    """Show `units` random units of each convolutional layer at every snapshot of `run`, a folder that training has made.

    The weights that a finished run ends with count as its last snapshot. At each snapshot the strongest activation of every
    unit over `images` is found, those of the chosen units are projected, and all units are compared with what they are at
    the last one, on `COMPARED` random photos. The folder `states` keeps what was mined, for a killed evolution to go on.

    Raises `UsageError` if a layer has fewer units, `DeconvnetError` if `run` is no run, has no snapshot or one of another
    network, or if no photo can be read.
    """
    snapshots, image_set = open_snapshots(Path(run)), find_images(images)
    last = snapshots.load(snapshots.epochs[-1]).to(device)
    _check_units(last, units)
    for epoch in snapshots.epochs[:-1]:
        snapshots.load(epoch, like=last)  # what is wrong with a file is said before hours of mining

    def mine_at(epoch: int, network: Network) -> MiningResult:
        say(f"Snapshot after epoch {epoch} (there are {', '.join(map(str, snapshots.epochs))}):", progress)
        state = None if states is None else states / f"epoch-{epoch:03d}.safetensors"
        return mine(network, image_set, top=1, state=state, batch_size=batch_size, workers=workers, progress=progress)

    at_end = mine_at(snapshots.epochs[-1], last)
    random = np.random.default_rng(seed)
    chosen = {name: hits.random_units(units, random) for name, hits in at_end.layers.items()}
    readable = [index for index in range(len(image_set)) if index not in at_end.skipped]
    compared = sorted(random.choice(readable, min(COMPARED, len(readable)), replace=False).tolist())

    columns: dict[str, list[_Column]] = {name: [] for name in chosen}
    for epoch in snapshots.epochs:
        network = last if epoch == snapshots.epochs[-1] else snapshots.load(epoch, like=last).to(device)
        found = at_end if network is last else mine_at(epoch, network)
        alike = similarity(network, last, image_set, compared, workers)
        for name, shown in chosen.items():
            projections = _projections(network, found[name], shown, batch_size, workers)
            hits = [next(iter(found[name][unit]), None) for unit in shown]
            same_photo = _same_photo(found[name], at_end[name])
            columns[name].append((hits, projections, float(alike[name].nanquantile(0.5)), same_photo))
    layers = {name: _layer(chosen[name], columns[name]) for name in chosen}
    return Evolution(last.full_name, snapshots.epochs, layers, image_set, at_end.read, len(compared), seed)


def write_evolution(out: Path, run: Path, images: Path, units: int = 6, **options: Any) -> Evolution:
    """Write `evolution.png` and `evolution.json` to the new folder `out`; see `evolve`, whose `options` these are.

    Until all is done, the work is in a hidden folder beside `out`, and the same call goes on with it. Raises `UsageError` if
    `out` exists, `DeconvnetError` if it cannot be written or another process is writing it, and what `evolve` raises.
    """
    return write_result(out, "evolution", lambda work: evolve(run, images, units, states=work, **options))


def _check_units(network: Network, units: int) -> None:
    counts = {network.layer(name).units: name for name in network.convolutional_layers}
    fewest = min(counts)
    if not 1 <= units <= fewest:
        raise UsageError(
            f"{units} units of each layer cannot be shown: {counts[fewest]} has {fewest}, so pass 1 to {fewest}."
        )


def _projections(network: Network, hits: LayerHits, units: list[int], batch_size: int, workers: int | None) -> Tensor:
    """(units, 3, h, w), each unit's strongest; zeros for one that no photo activates."""
    projections = torch.zeros(len(units), 3, *picture_size(network, hits.layer))
    for row, pieces in enumerate(project_units(network, hits, units, batch_size=batch_size, workers=workers)):
        for projection in pieces.projections:  # one, or none
            projections[row] = projection
    return projections


def _same_photo(hits: LayerHits, at_end: LayerHits) -> float:
    """See `LayerEvolution.same_photo`."""
    then, end = hits.strongest.images[:, 0], at_end.strongest.images[:, 0]
    return float((then == end)[end >= 0].double().mean())


def _layer(units: list[int], columns: list[_Column]) -> LayerEvolution:
    hits, projections, similarities, same_photo = zip(*columns, strict=True)
    rows = [list(row) for row in zip(*hits, strict=True)]
    return LayerEvolution(units, rows, torch.stack(projections, dim=1), list(similarities), list(same_photo))
