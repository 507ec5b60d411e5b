"""Compute Fig. 6: mine, project and measure two networks over the same images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.atlas.project_units import project_units
from deconvnet.data import Inputs, find_items
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig6_comparison.aliasing import aliased_fractions
from deconvnet.experiments.fig6_comparison.filter_stats import filter_rms, is_faint, nearest_cosine
from deconvnet.experiments.fig6_comparison.network_stats import LayerStats, NetworkStats
from deconvnet.experiments.fig6_comparison.result import Comparison
from deconvnet.experiments.fig6_comparison.spectra import spectra
from deconvnet.experiments.images import sample_indices
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.mining import LayerHits, mine
from deconvnet.models import InputReader, Network
from deconvnet.progress import print_status
from deconvnet.projection import project_batch

#: Random images that are translated to measure aliasing, at most.
MAX_TRANSLATED_IMAGES = 50

#: Convolutional layers in which aliasing is measured, from the first.
_ALIASING_LAYERS = 2


def compare(
    first: Network,
    second: Network,
    images: Inputs,
    units: int = 15,
    *,
    seed: int = 0,
    state_folder: Path | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Compare two networks over the same images, and measure what section 4.1 sees in such pictures.

    `units` random units of the second convolutional layer are shown by their nine strongest activations. All units of all
    layers are measured: the fraction of `images` that activates them, their filters' strength and similarity, the spectra of
    the first layer's filters, and on up to `MAX_TRANSLATED_IMAGES` random images the aliasing in the first two layers. The
    folder `state_folder` keeps mining states, so that a killed call can resume.

    Raises `DeconvnetError` if no image can be read, or a network has no convolutional layer or none that can be projected,
    `UsageError` for less than one unit.
    """
    image_set, generator = find_items(images), np.random.default_rng(seed)
    networks = first, second
    for network in networks:
        _check_network(network, units)
        InputReader(network, image_set, batch_size)
    active_fractions, shown_hits, skipped = [], [], []
    for number, network in enumerate(networks, start=1):
        print_status(f"{network.full_name}:", progress)
        state = None if state_folder is None else state_folder / f"network-{number}.safetensors"
        layers = list(network.layers)
        result = mine(network, image_set, layers, state=state, batch_size=batch_size, workers=workers, progress=progress)
        active_fractions.append({name: hits.statistics.active_share for name, hits in result.layers.items()})
        shown_hits.append(result[_shown_layer(network)])  # of one layer only: those of all may be large
        skipped.append(result.skipped)
    translated = sample_indices(image_set, {*skipped[0], *skipped[1]}, MAX_TRANSLATED_IMAGES, generator)
    if not translated:
        raise DeconvnetError(f"No photo in {image_set.title} can be read by both networks.")
    pair = []
    for network, active, hits in zip(networks, active_fractions, shown_hits, strict=True):
        print_status(
            f"{network.full_name}: moving {len(translated)} {image_set.noun}s, projecting {hits.layer.name}", progress
        )
        shown_units = hits.random_units(units, generator)
        pair.append(_network_stats(network, active, hits, shown_units, translated, batch_size, workers))
    if pair[0].network == pair[1].network:
        prefix = f"{pair[0].network.removesuffix(')')}, " if first.weights else f"{first.name} ("
        pair = [replace(stats, network=f"{prefix}{stats.sha256[:8]})") for stats in pair]
    read_count = len(image_set) - len(skipped[0])
    shown_as = next((shown for network in networks if (shown := network.input_space.shown_as)), "")
    return Comparison((pair[0], pair[1]), image_set, read_count, len(translated), seed, shown_as)


def write_comparison(
    out: Path, first: Network, second: Network, images: Inputs, units: int = 15, **options: Any
) -> Comparison:
    """Write `filters.png`, `blocks.png`, `measures.png` and `comparison.json` to the new folder `out`; see `compare`.

    Work in progress is in a hidden folder next to `out`, from which the same call resumes. Raises `UsageError` if `out`
    exists, `DeconvnetError` if it cannot be written or another process is writing it, and what `compare` raises.
    """
    with open_result_folder(out) as work:
        result = compare(first, second, images, units, state_folder=work.path, **options)
        save(result, work, "comparison")
    return result


def _shown_layer(network: Network) -> str:
    """The layer whose units are shown: the second convolutional one, or the only one."""
    return network.convolutional_layers[:2][-1]


def _check_network(network: Network, units: int) -> None:
    """Raise what cannot be compared, before hours of mining."""
    if not network.convolutional_layers:
        raise DeconvnetError(f"{network.full_name} has no convolutional layer, so it has no filters to compare.")
    if units < 1:
        raise UsageError(f"{units} units cannot be shown: pass 1 or more.")
    project_batch(network, torch.zeros(1, *network.input_shape), _shown_layer(network), torch.tensor([0]))


def _network_stats(
    network: Network,
    active_fractions: dict[str, Tensor],
    hits: LayerHits,
    shown_units: list[int],
    translated: Sequence[int],
    batch_size: int,
    workers: int | None,
) -> NetworkStats:
    aliasing_layers = network.convolutional_layers[:_ALIASING_LAYERS]
    aliasing = aliased_fractions(network, hits.image_set, translated, aliasing_layers, workers)
    layers = {}
    for name, active_fraction in active_fractions.items():
        weights = network.layer_filters(name)
        unscaled = None if weights is None or weights.rescaled else weights
        layers[name] = LayerStats(
            active_fraction=active_fraction,
            rms=None if unscaled is None else filter_rms(unscaled),
            nearest_cosine=None if weights is None else nearest_cosine(weights),
            is_faint=None if unscaled is None else is_faint(unscaled),
            aliasing=aliasing[name].above_nyquist if name in aliasing else None,
            first_stride_aliasing=aliasing[name].above_first_nyquist if name in aliasing else None,
        )
    filters = network.filters
    return NetworkStats(
        network=network.full_name,
        sha256=network.digest,
        layers=layers,
        filters=None if filters is None else filters.float().cpu(),
        spectra=None if filters is None else spectra(filters),
        shown_layer=hits.layer.name,
        shown_units=list(project_units(network, hits, shown_units, batch_size=batch_size, workers=workers)),
        shown_hits=[hits[unit] for unit in shown_units],
    )
