"""Make Fig. 6: mine, project and measure two networks over the same photos."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.atlas.project_hits import project_hits
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.aliasing import aliasing
from deconvnet.experiments.comparison import Comparison
from deconvnet.experiments.filter_measures import faint, nearest, rms
from deconvnet.experiments.side import LayerMeasures, Side
from deconvnet.experiments.spectra import spectra
from deconvnet.experiments.writing import write_result
from deconvnet.images import Photos, find_photos
from deconvnet.mining import Mined, mine
from deconvnet.networks import Network
from deconvnet.progress import say

#: Photos, drawn at random, that are moved to measure aliasing.
MOVED = 50

#: Layers in which aliasing is measured: convolutional ones, from the first.
_MEASURED = 2


def compare(
    one: Network,
    other: Network,
    images: Path | str | Iterable[Path | str] | Photos,
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

    Raises `DeconvnetError` if no photo can be read or a network has no convolutional layer.
    """
    photos = find_photos(images)
    for network in (one, other):
        if not network.convolutional_layers:
            raise DeconvnetError(f"{network.full_name} has no convolutional layer, so it has no filters to compare.")
    mined: list[Mined] = []
    for number, network in enumerate((one, other), start=1):
        say(f"{network.full_name}:", progress)
        state = None if states is None else states / f"network-{number}.safetensors"
        mined.append(
            mine(
                network,
                photos,
                list(network.layers),
                state=state,
                batch_size=batch_size,
                workers=workers,
                progress=progress,
            )
        )
    random = np.random.default_rng(seed)
    readable = [index for index in range(len(photos)) if not any(index in found.skipped for found in mined)]
    moved = sorted(random.choice(readable, min(MOVED, len(readable)), replace=False).tolist())
    sides = [
        _side(network, found, moved, units, random, batch_size, workers, progress)
        for network, found in zip((one, other), mined, strict=True)
    ]
    return Comparison((sides[0], sides[1]), photos, mined[0].read, len(moved), seed)


def write_comparison(out: Path, one: Network, other: Network, images: Path, units: int = 15, **options: Any) -> Comparison:
    """Write `filters.png`, `blocks.png`, `measures.png` and `comparison.json` to the new folder `out`; see `compare`.

    Until all is done, the work is in a hidden folder beside `out`, and the same call goes on with it. Raises `UsageError` if
    `out` exists, `DeconvnetError` if it cannot be written or another process is writing it, and what `compare` raises.
    """
    return write_result(out, "comparison", lambda work: compare(one, other, images, units, states=work, **options))


def _side(
    network: Network,
    mined: Mined,
    moved: Sequence[int],
    units: int,
    random: np.random.Generator,
    batch_size: int,
    workers: int | None,
    progress: bool,
) -> Side:
    convolutional = network.convolutional_layers
    second = convolutional[min(1, len(convolutional) - 1)]
    say(f"{network.full_name}: moving {len(moved)} photos, projecting {second}", progress)
    aliased = aliasing(network, mined.photos, moved, convolutional[:_MEASURED], workers)
    layers = {}
    for name, hits in mined.layers.items():
        filters = network.layer_filters(name)
        layers[name] = LayerMeasures(
            active_share=hits.statistics.active_share,
            rms=None if filters is None else rms(filters),
            nearest=None if filters is None else nearest(filters),
            faint=None if filters is None else faint(filters),
            aliasing=aliased.get(name),
        )
    pixels = network.filters
    return Side(
        network=network.full_name,
        sha256=network.digest,
        layers=layers,
        filters=None if pixels is None else pixels.float().cpu(),
        spectra=None if pixels is None else spectra(pixels),
        second=second,
        blocks=list(
            project_hits(
                network, mined[second], mined[second].random_units(units, random), batch_size=batch_size, workers=workers
            )
        ),
    )
