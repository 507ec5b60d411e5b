"""Make Fig. 6: mine, project and measure two networks over the same photos."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.atlas.project_units import project_units
from deconvnet.data import ImageSet, find_images
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig6_comparison.aliasing import aliasing
from deconvnet.experiments.fig6_comparison.filter_stats import faint, nearest, rms
from deconvnet.experiments.fig6_comparison.network_stats import LayerMeasures, Side
from deconvnet.experiments.fig6_comparison.result import Comparison
from deconvnet.experiments.fig6_comparison.spectra import spectra
from deconvnet.experiments.result import write_result
from deconvnet.mining import LayerHits, mine
from deconvnet.models import Network
from deconvnet.progress import say
from deconvnet.projection import project_batch

#: Photos, drawn at random, that are moved to measure aliasing.
MOVED = 50

#: Layers in which aliasing is measured: convolutional ones, from the first.
_MEASURED = 2


def compare(
    one: Network,
    other: Network,
    images: Path | str | Iterable[Path | str] | ImageSet,
    units: int = 15,
    *,
    seed: int = 0,
    states: Path | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Show two networks beside each other over the same photos, and measure what section 4.1 sees in such pictures.

    `units` random units of the second convolutional layer are shown by their nine strongest activations; all units of all
    layers are measured: how many of `images` activate them, their filters' strength and likeness, the spectra of the first
    layer's filters, and on `MOVED` random photos the aliasing in the first two layers. The folder `states` keeps what was
    mined, for a killed comparison to go on.

    Raises `DeconvnetError` if no photo can be read, or a network has no convolutional layer or none that can be projected,
    `UsageError` for less than one unit.
    """
    image_set, random = find_images(images), np.random.default_rng(seed)
    networks = one, other
    for network in networks:
        _check(network, units)
    found = []
    for number, network in enumerate(networks, start=1):
        say(f"{network.full_name}:", progress)
        state = None if states is None else states / f"network-{number}.safetensors"
        layers = list(network.layers)
        mined = mine(network, image_set, layers, state=state, batch_size=batch_size, workers=workers, progress=progress)
        active = {name: hits.statistics.active_share for name, hits in mined.layers.items()}
        found.append((active, mined[_second(network)], mined.skipped))  # the rest may be large
    readable = [index for index in range(len(image_set)) if not any(index in skipped for _, _, skipped in found)]
    if not readable:
        raise DeconvnetError(f"No photo in {image_set.root} can be read by both networks.")
    moved = sorted(random.choice(readable, min(MOVED, len(readable)), replace=False).tolist())
    sides = []
    for network, (active, hits, _) in zip(networks, found, strict=True):
        say(f"{network.full_name}: moving {len(moved)} photos, projecting {hits.layer.name}", progress)
        chosen = hits.random_units(units, random)
        sides.append(_side(network, active, hits, chosen, moved, batch_size, workers))
    if sides[0].network == sides[1].network:
        same = f"{sides[0].network.removesuffix(')')}, " if one.weights else f"{one.name} ("
        sides = [replace(side, network=f"{same}{side.sha256[:8]})") for side in sides]
    return Comparison((sides[0], sides[1]), image_set, len(image_set) - len(found[0][2]), len(moved), seed)


def write_comparison(out: Path, one: Network, other: Network, images: Path, units: int = 15, **options: Any) -> Comparison:
    """Write `filters.png`, `blocks.png`, `measures.png` and `comparison.json` to the new folder `out`; see `compare`.

    Until all is done, the work is in a hidden folder beside `out`, and the same call goes on with it. Raises `UsageError` if
    `out` exists, `DeconvnetError` if it cannot be written or another process is writing it, and what `compare` raises.
    """
    return write_result(out, "comparison", lambda work: compare(one, other, images, units, states=work, **options))


def _second(network: Network) -> str:
    """The layer whose units are shown: the second convolutional one, or the only one."""
    return network.convolutional_layers[:2][-1]


def _check(network: Network, units: int) -> None:
    """Say what cannot be compared before hours of mining."""
    if not network.convolutional_layers:
        raise DeconvnetError(f"{network.full_name} has no convolutional layer, so it has no filters to compare.")
    if units < 1:
        raise UsageError(f"{units} units cannot be shown: pass 1 or more.")
    size = network.preprocessing.crop
    project_batch(network, torch.zeros(1, 3, size, size), _second(network), torch.tensor([0]))


def _side(
    network: Network,
    active: dict[str, Tensor],
    hits: LayerHits,
    chosen: list[int],
    moved: Sequence[int],
    batch_size: int,
    workers: int | None,
) -> Side:
    aliased = aliasing(network, hits.image_set, moved, network.convolutional_layers[:_MEASURED], workers)
    layers = {}
    for name, share in active.items():
        filters = network.layer_filters(name)
        sized = filters is not None and not filters.rescaled
        layers[name] = LayerMeasures(
            active_share=share,
            rms=rms(filters) if filters is not None and sized else None,
            nearest=None if filters is None else nearest(filters),
            faint=faint(filters) if filters is not None and sized else None,
            aliasing=aliased[name].own if name in aliased else None,
            aliasing_below=aliased[name].first if name in aliased else None,
        )
    pixels = network.filters
    return Side(
        network=network.full_name,
        sha256=network.digest,
        layers=layers,
        filters=None if pixels is None else pixels.float().cpu(),
        spectra=None if pixels is None else spectra(pixels),
        second=hits.layer.name,
        blocks=list(project_units(network, hits, chosen, batch_size=batch_size, workers=workers)),
        hits=[hits[unit] for unit in chosen],
    )
