"""Make an atlas: mine, project, draw, write; in a folder beside the final one, which appears only when all is done."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.atlas.figures import layer_figure
from deconvnet.atlas.html import write_pages
from deconvnet.atlas.project_units import picture_size
from deconvnet.atlas.render import draw_units, filter_sheet, save_picture
from deconvnet.atlas.tables import write_tables
from deconvnet.atlas.work import AtlasWork
from deconvnet.data import ImageSet, find_images
from deconvnet.distributed import Processes
from deconvnet.environment import software_versions
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining import (
    HISTOGRAM_EDGES,
    Key,
    MiningResult,
    State,
    merge_parts,
    mine_together,
    to_result,
)
from deconvnet.models import Network
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.storage import refuse_existing, write_via_buffer

FORMAT = 2


def build_atlas(
    network: Network,
    images: Path | str | Iterable[Path | str] | ImageSet,
    out: Path,
    layers: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    top: int = 9,
    processes: Processes | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write an atlas to `out`; see `Atlas.build`.

    `processes` mine together, and all have to call this; only the first draws, and the others return before it has.
    """
    out = Path(os.path.realpath(out))
    processes = processes or Processes()
    if processes.first:
        refuse_existing(out)
    options = {"batch_size": batch_size, "workers": workers, "progress": progress}
    image_set = find_images(images)
    chosen = _choose(network, network.convolutional_layers if layers is None else layers, units)
    key = Key.of(network, image_set, chosen, top)

    work = AtlasWork(out)

    def search() -> State:
        return mine_together(network, image_set, key, work.state, processes, **options)  # type: ignore[arg-type]

    if not processes.first:
        search()
        with suppress(OSError):
            work.folder.path.rmdir()  # on another machine's disk it is empty now
        return
    with work.open(key, chosen, network.full_name):
        _draw(network, image_set, search(), chosen, work, options)


def merge_atlas(
    network: Network,
    images: Path | str | Iterable[Path | str] | ImageSet,
    parts: Sequence[Path | str],
    out: Path | str,
    units: Sequence[int] | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write the atlas of photos that were mined in `parts` (see `mine_part`) to `out`; the parts say which layers.

    Raises what `merge_parts` and `Atlas.build` raise.
    """
    out = Path(os.path.realpath(out))
    refuse_existing(out)
    image_set = find_images(images)
    state = merge_parts(network, image_set, parts)
    chosen = _choose(network, state.key.layers, units)
    work = AtlasWork(out)
    with work.open(state.key, chosen, network.full_name):
        _draw(network, image_set, state, chosen, work, {"batch_size": batch_size, "workers": workers, "progress": progress})


def _draw(
    network: Network,
    image_set: ImageSet,
    state: State,
    chosen: dict[str, list[int]],
    work: AtlasWork,
    options: dict[str, Any],
) -> None:
    """All that comes after mining."""
    if not state.read:
        work.state.unlink(missing_ok=True)  # nothing in it is worth keeping
    found, folder = to_result(state, network, image_set), work.atlas
    try:
        folder.mkdir(exist_ok=True)
        write_tables(found, chosen, folder)
        draw_units(network, found, chosen, work, **options)
        description = _describe(network, found, state.key.photos, chosen, work.drawn)
        if network.filters is not None and next(iter(network.layers)) in chosen:
            filters = network.filters.float().cpu().numpy()
            write_via_buffer(folder / "filters.npy", lambda file: np.save(file, filters))
            save_picture(filter_sheet(network.filters, network.full_name), folder / "filters.png")
        if isinstance(description["preprocessing"]["mean"], str):
            mean = network.preprocessing.mean.numpy()
            write_via_buffer(folder / description["preprocessing"]["mean"], lambda file: np.save(file, mean))
        for name in chosen:
            save_picture(layer_figure(folder, description, name), folder / f"figure-{name}.png")
        (folder / "atlas.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
        write_pages(folder)
        work.publish()
    except OSError as error:
        raise DeconvnetError(f"The atlas cannot be written to {work.out}: {error.strerror or error}.") from error


def _choose(network: Network, layers: Iterable[str], units: Sequence[int] | None) -> dict[str, list[int]]:
    """The units to show of each layer, layers in the order in which they run."""
    names = sorted(set(layers), key=lambda name: network.layer(name).index)
    if not names:
        raise UsageError(f"No layer was chosen: {network.name} has {', '.join(network.layers)}.")
    counts = {name: network.layer(name).units for name in names}
    if units is None:
        return {name: list(range(count)) for name, count in counts.items()}
    unknown = [unit for unit in units if not 0 <= unit < max(counts.values())]
    if unknown or not units:
        largest = ", ".join(f"{name} has 0–{count - 1}" for name, count in counts.items())
        raise UsageError(f"There is no unit {unknown[0] if unknown else 'chosen'}: {largest}.")
    inside = {name: sorted({unit for unit in units if unit < count}) for name, count in counts.items()}
    return {name: found for name, found in inside.items() if found}


def _describe(
    network: Network,
    mined: MiningResult,
    digest: str,
    chosen: dict[str, list[int]],
    differences: dict[str, dict[int, float]],
) -> dict[str, Any]:
    """What atlas.json says."""
    image_set = mined.image_set
    layers = []
    for name, units in chosen.items():
        layer, field = mined[name].layer, mined[name].layer.field
        height, width = picture_size(network, layer)
        layers.append(
            {
                "name": name,
                "units": layer.units,
                "chosen": "all" if len(units) == layer.units else units,
                "rows": layer.map_size[0],
                "columns": layer.map_size[1],
                "field": field.as_json(),
                "picture": {"height": height, "width": width},
                "largest_difference": max(differences[name].values()),
            }
        )
    return {
        "format": FORMAT,
        "network": {
            "name": network.name,
            "weights": network.weights,
            "address": network.address,
            "full_name": network.full_name,
            "digest": network.digest,
            "classifies": network.classifies,
        },
        "preprocessing": preprocessing_metadata(network.preprocessing, "mean.npy"),
        "images": {
            "folder": str(image_set.root),
            "digest": digest,
            "found": len(image_set),
            "read": mined.read,
            "classes": len(image_set.classes),
            "skipped": [{"path": image_set.paths[index], "reason": reason} for index, reason in mined.skipped.items()],
            "ignored": list(image_set.ignored),
        },
        "top": mined.top,
        "search": {"precision": "float32"},
        "layers": layers,
        "histogram_edges": HISTOGRAM_EDGES.tolist(),
        "versions": software_versions(),
    }
