"""Build an atlas: mine, project, draw, write; in a folder next to the final one, which appears only when all is done."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.atlas.build_progress import AtlasWork
from deconvnet.atlas.draw_units import draw_units
from deconvnet.atlas.figures import layer_figure
from deconvnet.atlas.html import render_pages, write_pages
from deconvnet.atlas.render import filter_sheet, layout_channels, save_picture
from deconvnet.atlas.tables import Tables
from deconvnet.data import Inputs, find_items
from deconvnet.distributed import Processes
from deconvnet.environment import software_versions
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining import HISTOGRAM_EDGES, MiningKey, MiningResult, merge_parts, mine_remaining, to_result
from deconvnet.models import InputReader, Network
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.projection import check_way_down, layers_with_way_down
from deconvnet.storage import buffered, refuse_existing

FORMAT = 2


def build_atlas(
    network: Network,
    images: Inputs,
    out: Path | str,
    layers: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    top: int = 9,
    *,
    parts: Sequence[Path | str] | None = None,
    processes: Processes | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write an atlas to `out`; see `Atlas.build`, which also opens it.

    `processes` mine together, and all must call this. Only the first draws; the others return before the atlas is there.
    """
    out = Path(os.path.realpath(out))
    processes = processes or Processes()
    if processes.is_first:
        refuse_existing(out)
    image_set = find_items(images)
    InputReader(network, image_set, batch_size)  # refuses what cannot be read before a folder is made
    work = AtlasWork(out)
    if parts is None:
        names = layers_with_way_down(network, network.convolutional_layers) if layers is None else layers
        chosen = _choose_units(network, names, units)
        key, merged = MiningKey.compute(network, image_set, chosen, top), None
    else:
        merged = merge_parts(network, image_set, parts)
        key, chosen = merged.key, _choose_units(network, merged.key.layers, units)

    for name in chosen:  # before hours of mining
        check_way_down(network, name)
    with work.open(key, chosen, network.full_name) if processes.is_first else nullcontext():
        state = merged or mine_remaining(
            network,
            image_set,
            key,
            work.state_file,
            processes=processes,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        if not processes.is_first:
            with suppress(OSError):
                work.folder.path.rmdir()  # empty, unless another process of this machine is the first
            return
        if not state.read_count:
            work.state_file.unlink(missing_ok=True)  # so that no work is kept: it would be useless
        result = to_result(state, network, image_set)
        try:
            work.atlas.mkdir(exist_ok=True)
            tables = Tables.from_result(result, chosen)
            tables.write(work.atlas)
            hits_digest = tables.hits_digest
            del tables  # with millions of images they are large; made anew for the pages
            work.resume_drawing(hits_digest, chosen, result)
            draw_units(network, result, chosen, work, batch_size=batch_size, workers=workers, progress=progress)
            _write_rest(network, result, key, chosen, work)
            # A kill after the renaming leaves a record without pictures, which `resume_drawing` notices.
            work.folder.publish(work.atlas)
        except OSError as error:
            raise DeconvnetError(f"The atlas cannot be written to {out}: {error.strerror or error}.") from error


def _write_rest(
    network: Network, result: MiningResult, key: MiningKey, units: dict[str, list[int]], work: AtlasWork
) -> None:
    """Write what comes after the units' pictures: filters, mean image, figures, atlas.json, pages."""
    folder = work.atlas
    description = _describe(network, result, key, units, work.drawn)
    filters = None
    if network.filters is not None and next(iter(network.layers)) in units:
        filters = network.filters.float().cpu()
        _save_array(filters.numpy(), folder / "filters.npy")
        save_picture(filter_sheet(network.filters, network.full_name), folder / "filters.png")
    if network.input_space.reads_photos and isinstance(mean_file := description["preprocessing"]["mean"], str):
        _save_array(network.preprocessing.mean.numpy(), folder / mean_file)
    for name, chosen in units.items():
        active = {unit: bool(result[name].statistics.active[unit] > 0) for unit in chosen}
        save_picture(layer_figure(folder, description, name, active, filters), folder / f"figure-{name}.png")
    (folder / "atlas.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
    tables = Tables.from_result(result, units)
    write_pages(folder, render_pages(description, tables, has_filters=filters is not None))


def _save_array(array: np.ndarray, file: Path) -> None:
    with buffered(file) as buffer:
        np.save(buffer, array)


def _choose_units(network: Network, layers: Iterable[str], units: Sequence[int] | None) -> dict[str, list[int]]:
    """The units to show of each layer, in the order in which the layers run; see `Atlas.build`."""
    names = sorted(set(layers), key=lambda name: network.layer(name).index)
    if not names:
        raise UsageError(f"No layer was chosen: {network.name} has {', '.join(network.layers)}.")
    counts = {name: network.layer(name).units for name in names}
    if units is None:
        return {name: list(range(count)) for name, count in counts.items()}
    unknown = [unit for unit in units if not 0 <= unit < max(counts.values())]
    if unknown or not units:
        ranges = ", ".join(f"{name} has 0–{count - 1}" for name, count in counts.items())
        raise UsageError(f"There is no unit {unknown[0] if unknown else 'chosen'}: {ranges}.")
    chosen = {name: sorted({unit for unit in units if unit < count}) for name, count in counts.items()}
    return {name: layer_units for name, layer_units in chosen.items() if layer_units}


def _describe(
    network: Network,
    result: MiningResult,
    key: MiningKey,
    units: dict[str, list[int]],
    differences: dict[str, dict[int, float]],
) -> dict[str, Any]:
    """The content of atlas.json; `differences` are those found while projecting, by layer and unit."""
    image_set, space = result.image_set, network.input_space
    # In a grid of channels; one and three take as much room.
    channels = {} if (count := layout_channels(network)) in (1, 3) else {"channels": count}
    layers = []
    for name, layer_units in units.items():
        layer = result[name].layer
        height, width = layer.field.patch_size
        layers.append(
            {
                "name": name,
                "units": layer.units,
                "chosen": "all" if len(layer_units) == layer.units else layer_units,
                "rows": layer.map_size[0],
                "columns": layer.map_size[1],
                "field": layer.field.as_json(),
                "picture": {"height": height, "width": width} | channels,
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
        "preprocessing": preprocessing_metadata(network.preprocessing, "mean.npy") if space.reads_photos else None,
        **_describe_input(network),
        "images": {
            "folder": image_set.title,
            **({} if image_set.noun == "photo" else {"noun": image_set.noun}),
            "digest": key.image_set_digest,
            "found": len(image_set),
            "read": result.read_count,
            "classes": len(image_set.classes),
            "skipped": [{"path": image_set.paths[index], "reason": reason} for index, reason in result.skipped.items()],
            "ignored": list(image_set.ignored),
        },
        "top": result.top,
        "search": {"precision": "float32"},
        "layers": layers,
        "histogram_edges": HISTOGRAM_EDGES.tolist(),
        "versions": software_versions(),
    }


def _describe_input(network: Network) -> dict[str, Any]:
    """The entry `input` of atlas.json: what inputs are and how they are shown, unless they are square views of photos."""
    (channels, height, width), space = network.input_shape, network.input_space
    if space.shows_pixels and height == width:
        return {}
    shown = {"shown_channels": space.shown_channels, "shown_as": space.shown_as}
    return {"input": {"channels": channels, "height": height, "width": width, **shown}}
