"""Compute Fig. 4: mine and project at every snapshot of a training run, and compare the snapshots."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.atlas.project_units import project_units
from deconvnet.data import Inputs, find_items
from deconvnet.distributed import local_device
from deconvnet.errors import UsageError
from deconvnet.experiments.fig4_evolution.convergence import similarity
from deconvnet.experiments.fig4_evolution.layer_result import LayerEvolution
from deconvnet.experiments.fig4_evolution.result import Evolution
from deconvnet.experiments.fig4_evolution.snapshots import open_snapshots
from deconvnet.experiments.images import sample_indices
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.mining import Hit, LayerHits, MiningResult, mine
from deconvnet.models import Network
from deconvnet.progress import print_status

#: Random images on which the units of two snapshots are compared, at most.
MAX_COMPARED_IMAGES = 200


def evolve(
    run: Path | str,
    images: Inputs,
    units: int = 6,
    *,
    seed: int = 0,
    state_folder: Path | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> Evolution:
    """Find and project the strongest activations of random units at every snapshot of `run`, a folder made by training.

    The final weights of a finished run count as its last snapshot. At each snapshot the strongest activation of every unit
    over `images` is found, those of `units` random units of each convolutional layer are projected, and all units are
    compared with themselves at the last snapshot, on up to `MAX_COMPARED_IMAGES` random images. The folder `state_folder`
    keeps mining states, so that a killed call can resume. `device` None is a GPU if there is one, else the CPU.

    Raises `UsageError` if a layer has fewer units, `DeconvnetError` if `run` is no run, has no snapshot or one of another
    network, or if no image can be read.
    """
    snapshots, image_set, device = open_snapshots(Path(run)), find_items(images), local_device(device)
    last_epoch = snapshots.epochs[-1]
    final_network = snapshots.load(last_epoch).to(device)
    _check_units(final_network, units)
    for epoch in snapshots.epochs[:-1]:
        snapshots.load(epoch, final_network)  # so that a bad file is reported before hours of mining

    def mine_snapshot(epoch: int, network: Network) -> MiningResult:
        print_status(f"Snapshot after epoch {epoch} (there are {', '.join(map(str, snapshots.epochs))}):", progress)
        state = None if state_folder is None else state_folder / f"epoch-{epoch:03d}.safetensors"
        return mine(network, image_set, top=1, state=state, batch_size=batch_size, workers=workers, progress=progress)

    final_result = mine_snapshot(last_epoch, final_network)
    generator = np.random.default_rng(seed)
    shown_units = {name: hits.random_units(units, generator) for name, hits in final_result.layers.items()}
    compared = sample_indices(image_set, final_result.skipped, MAX_COMPARED_IMAGES, generator)

    hits: dict[str, list[list[Hit | None]]] = {name: [] for name in shown_units}  # by epoch and unit, as projections
    projections: dict[str, list[Tensor]] = {name: [] for name in shown_units}
    similarities: dict[str, list[float]] = {name: [] for name in shown_units}
    same_image_fractions: dict[str, list[float]] = {name: [] for name in shown_units}
    for epoch in snapshots.epochs:
        is_last = epoch == last_epoch
        network = final_network if is_last else snapshots.load(epoch, final_network).to(device)
        result = final_result if is_last else mine_snapshot(epoch, network)
        unit_similarities = similarity(network, final_network, image_set, compared, workers)
        for name, layer_units in shown_units.items():
            layer_hits = result[name]
            hits[name].append([next(iter(layer_hits[unit]), None) for unit in layer_units])
            projected = project_units(network, layer_hits, layer_units, batch_size=batch_size, workers=workers)
            nothing = torch.zeros(network.input_shape[0], *layer_hits.layer.field.patch_size)
            # Of each unit there is one projection, or none.
            projections[name].append(torch.stack([next(iter(unit.projections), nothing) for unit in projected]))
            similarities[name].append(float(unit_similarities[name].nanquantile(0.5)))
            same_image_fractions[name].append(_same_image_fraction(layer_hits, final_result[name]))
    return Evolution(
        network=final_network.full_name,
        epochs=snapshots.epochs,
        layers={
            name: LayerEvolution(
                units=layer_units,
                hits=[list(unit_hits) for unit_hits in zip(*hits[name], strict=True)],
                projections=torch.stack(projections[name], dim=1),
                similarities=similarities[name],
                same_image_fractions=same_image_fractions[name],
            )
            for name, layer_units in shown_units.items()
        },
        image_set=image_set,
        read_count=final_result.read_count,
        compared_count=len(compared),
        seed=seed,
    )


def write_evolution(out: Path, run: Path, images: Inputs, units: int = 6, **options: Any) -> Evolution:
    """Write `evolution.png` and `evolution.json` to the new folder `out`; `options` are those of `evolve`.

    Work in progress is in a hidden folder next to `out`, from which the same call resumes. Raises `UsageError` if `out`
    exists, `DeconvnetError` if it cannot be written or another process is writing it, and what `evolve` raises.
    """
    with open_result_folder(out) as work:
        result = evolve(run, images, units, state_folder=work.path, **options)
        save(result, work, "evolution")
    return result


def _check_units(network: Network, units: int) -> None:
    layers = {network.layer(name).units: name for name in network.convolutional_layers}
    fewest = min(layers)
    if not 1 <= units <= fewest:
        raise UsageError(
            f"{units} units of each layer cannot be shown: {layers[fewest]} has {fewest}, so pass 1 to {fewest}."
        )


def _same_image_fraction(hits: LayerHits, final_hits: LayerHits) -> float:
    """One of `LayerEvolution.same_image_fractions`."""
    images, final_images = hits.topk.images[:, 0], final_hits.topk.images[:, 0]
    return float((images == final_images)[final_images >= 0].double().mean())
