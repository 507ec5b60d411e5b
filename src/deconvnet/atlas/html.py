"""The pages that show an atlas in a browser: hand-written files (`web/`), and the tables as scripts.

Pages opened from disk may neither fetch files nor import modules, so data are scripts too, each of which calls `receive`
with one value (`web/data.js`). A page loads the overview, one small file per layer, and units in groups as they are viewed.
"""

import html
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from deconvnet.atlas.figures import random_units
from deconvnet.atlas.render import UnitLayout
from deconvnet.atlas.tables import HISTOGRAM_COLUMNS, HIT_COLUMNS, Row, Tables
from deconvnet.data.channel_pictures import channel_corners, rgb_size
from deconvnet.data.image_set import classes_from_folders
from deconvnet.errors import DeconvnetError
from deconvnet.formatting import field_seen
from deconvnet.storage import atomic_write

#: Units whose hits are in one file. `web/data.js` gets it with the overview.
_GROUP_SIZE = 64

#: Classes shown for a unit, those with the largest mean.
_CLASSES_SHOWN = 8

#: Units of each layer in the overview.
_OVERVIEW_UNITS = 12


@cache
def shared_assets() -> dict[str, bytes]:
    """The hand-written files, by name: HTML, CSS and JavaScript. In the HTML files, `$title` is to be substituted."""
    folder = files("deconvnet.atlas") / "web"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def write_pages(folder: Path, pages: Mapping[str, bytes]) -> None:
    """Write `pages`, by path in `folder`, atomically: they may be open in a browser. Raises `DeconvnetError`."""
    for name, content in pages.items():
        atomic_write(folder / name, content)


def page_files(folder: Path, siblings: Sequence[str] = (), live: str = "") -> dict[str, bytes]:
    """All files of the pages of the finished atlas in `folder`, by path in it; see `render_pages`.

    Raises `DeconvnetError` if the tables are damaged.
    """
    try:
        description = json.loads((folder / "atlas.json").read_text(encoding="utf-8"))
        return render_pages(description, Tables.read(folder), (folder / "filters.png").exists(), siblings, live)
    except DeconvnetError:
        raise
    except Exception as error:  # tables can be damaged in every way
        raise DeconvnetError(
            f"The atlas in {folder} is damaged, so make it again ({type(error).__name__}: {error})."
        ) from error


def render_pages(
    description: dict[str, Any], tables: Tables, has_filters: bool, siblings: Sequence[str] = (), live: str = ""
) -> dict[str, bytes]:
    """All files of an atlas's pages, by path in its folder, from the content of atlas.json and its tables.

    `has_filters` says whether it has a sheet of first-layer filters. `siblings` are the names of folders next to it that
    hold other atlases, to compare with; `live` is the address of the live page, if a server has one.
    """
    title = html.escape(f"Atlas of {description['network']['full_name']}")
    pages = {}
    for name, content in shared_assets().items():
        if name.endswith(".html"):
            pages[name] = Template(content.decode()).substitute(title=title).encode("utf-8", "surrogateescape")
        else:
            pages[f"pages/{name}"] = content
    data = _PageData(description, tables)
    overview = {**data.overview(has_filters), "beside": list(siblings), "live": live}
    pages["pages/atlas.js"] = _script("atlas", overview)
    for layer in range(len(description["layers"])):
        pages[f"pages/layer-{layer}.js"] = _script(f"layer-{layer}", data.layer(layer))
        for group, units in enumerate(data.groups(layer)):
            pages[f"pages/units-{layer}-{group}.js"] = _script(f"units-{layer}-{group}", units)
    return pages


def _script(name: str, value: Any) -> bytes:
    return f"receive({json.dumps(name)},{json.dumps(value, separators=(',', ':'), allow_nan=False)});\n".encode()


def _view_geometry(description: dict[str, Any]) -> dict[str, Any]:
    """The size of a view's picture, its channels' corners in it, the size of each, and how views are shown, in words."""
    entry = description.get("input")
    if entry is None:  # square views of photos
        crop = description["preprocessing"]["crop"]
        entry = {"height": crop, "width": crop, "shown_channels": 3, "shown_as": ""}
    size, channels = (entry["height"], entry["width"]), entry["shown_channels"]
    return {
        "view": list(reversed(rgb_size(size, channels))),
        "corners": [list(reversed(corner)) for corner in channel_corners(size, channels)],
        "shown": entry["shown_as"],
    }


class _PageData:
    """The values that the pages' scripts receive. Layers are counted from 0 in the order of atlas.json."""

    def __init__(self, description: dict[str, Any], tables: Tables) -> None:
        self._description = description
        self._layers = [entry["name"] for entry in description["layers"]]
        self._units: dict[str, list[Row]] = defaultdict(list)
        for row in tables.units:
            self._units[row["layer"]].append(row)
        self._hits: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in tables.hits:
            self._hits[row["layer"], row["unit"]].append(row)
        self._images = {row["image"]: row for row in tables.images}
        self._classes = [str(name) for name in tables.classes["classes"]]
        class_images = np.maximum(tables.classes["images"], 1)[:, None]
        self._means = {name: tables.classes[name] / class_images for name in self._layers}
        """By layer, (classes, units): mean over a class's images of a unit's maximum."""

    def overview(self, has_filters: bool) -> dict[str, Any]:
        """What every page needs."""
        description = self._description
        return {
            "network": description["network"]["full_name"],
            "photos": description["images"]["read"],
            "folder": description["images"]["folder"],
            "digest": description["images"]["digest"],
            "top": description["top"],
            "noun": description["images"].get("noun", "photo"),
            **_view_geometry(description),
            "classes": classes_from_folders(self._classes),
            "edges": [_round(edge) for edge in description["histogram_edges"]],
            "group": _GROUP_SIZE,
            "filters": has_filters,
            "layers": [self._layer_overview(layer) for layer in range(len(self._layers))],
        }

    def _layer_overview(self, layer: int) -> dict[str, Any]:
        entry = self._description["layers"][layer]
        active = {int(row["unit"]): float(row["active_share"]) > 0 for row in self._units[entry["name"]]}
        picture = entry["picture"]
        layout = UnitLayout((picture["height"], picture["width"]), self._description["top"], picture.get("channels", 3))
        field = entry["field"]  # without a status if it is exact
        return {
            "name": entry["name"],
            "units": entry["units"],
            "shown": len(active),
            "dead": sum(not is_active for is_active in active.values()),
            "map": [entry["rows"], entry["columns"]],
            "sees": field_seen([field[axis]["size"] for axis in ("rows", "columns")], field.get("status", "exact")),
            "strip": random_units(active, 0, layer)[:_OVERVIEW_UNITS],
            "picture": {
                "size": layout.page_size,
                "tile": list(reversed(layout.tile)),
                "gap": layout.gap,
                "blocks": [layout.box(block)[:2] for block in (0, 1)],
                "block": list(reversed(layout.block)),
                "columns": layout.columns,
                "crisp": layout.zoom > 1,
            },
        }

    def layer(self, layer: int) -> dict[str, list[Any]]:
        """What units are sorted and filtered by: lists with one value for each unit of the layer."""
        name = self._layers[layer]
        rows, means = self._units[name], self._means[name]
        best_classes = means.argmax(axis=0) if len(means) else np.full(len(rows), -1)
        unit_hits = [self._hits[name, row["unit"]] for row in rows]
        return {
            "unit": [int(row["unit"]) for row in rows],
            "strength": [_round(hits[0]["value"]) if hits else 0 for hits in unit_hits],
            "mean": [_round(row["mean_max"]) for row in rows],
            "frequency": [_round(row["active_share"]) for row in rows],
            "selectivity": [_round(row["selectivity"]) if row["selectivity"] else None for row in rows],
            "best": [int(index) if hits else -1 for index, hits in zip(best_classes, unit_hits, strict=True)],
        }

    def groups(self, layer: int) -> list[dict[str, Any]]:
        """Hits, histograms and classes of the layer's units, `_GROUP_SIZE` at a time, with the images of their hits."""
        rows = self._units[self._layers[layer]]
        return [self._group(layer, first, rows[first : first + _GROUP_SIZE]) for first in range(0, len(rows), _GROUP_SIZE)]

    def _group(self, layer: int, first: int, rows: list[Row]) -> dict[str, Any]:
        name = self._layers[layer]
        images, units = {}, []
        for index, row in enumerate(rows, first):
            hits = self._hits[name, row["unit"]]
            images.update({hit["image"]: self._images[hit["image"]] for hit in hits})
            means = self._means[name][:, index]
            strongest_classes = np.argsort(-means, kind="stable")[:_CLASSES_SHOWN]
            units.append(
                {
                    "hits": [[_round(hit[column]) for column in HIT_COLUMNS[3:]] for hit in hits],
                    "histogram": [int(row[column]) for column in HISTOGRAM_COLUMNS],
                    "classes": [[int(label), _round(means[label])] for label in strongest_classes if means[label] > 0],
                }
            )
        return {"units": units, "images": {image: [row["path"], row["label"]] for image, row in images.items()}}


def _round(value: str | float) -> float | int:
    """A number to the four significant digits that a page shows; a whole number as it is."""
    number = float(value)
    return int(number) if number.is_integer() else float(f"{number:.4g}")
