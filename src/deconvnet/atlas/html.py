"""The pages that open an atlas in a browser: hand-written files (`web/`) beside what the tables say, as scripts.

Pages from disk may neither fetch files nor import modules, so data are scripts too, each of which hands one value over
(`web/data.js`). A page loads the overview, one small file per layer, and the units in groups as they are looked at.
"""

import html
import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from deconvnet.atlas.figures import random_units
from deconvnet.atlas.render import UnitLayout
from deconvnet.atlas.tables import HIT_COLUMNS, read_arrays, read_table
from deconvnet.data.image_set import named_classes
from deconvnet.errors import DeconvnetError
from deconvnet.storage import atomic_write

#: Units whose hits stand in one file. `web/data.js` is told.
_GROUP = 64

#: Classes that are said to drive a unit.
_CLASSES = 8

#: Units that the overview shows of each layer.
_STRIP = 12

#: Columns of units.csv before the histogram.
_BEFORE_HISTOGRAM = 5


@cache
def shared_assets() -> dict[str, bytes]:
    """The hand-written files, by name: HTML, CSS and JavaScript. `index.html` and `compare.html` lack their titles."""
    folder = files("deconvnet.atlas") / "web"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def write_pages(folder: Path, beside: Sequence[str] = ()) -> None:
    """Write all pages of the atlas in `folder`, which has everything else already; `beside` are atlases next to it.

    Raises `DeconvnetError` if the tables are damaged or something cannot be written.
    """
    for name, content in page_files(folder, beside).items():
        atomic_write(folder / name, content)  # what is there may be open in a browser


def page_files(folder: Path, beside: Sequence[str] = (), live: str = "") -> dict[str, bytes]:
    """All files of an atlas's pages, by their paths in it.

    `beside` are the names of folders next to it that hold other atlases, to compare with; `live` is the address of the
    live page, where a server has one. Raises `DeconvnetError` if the tables are damaged.
    """
    try:
        return _page_files(folder, beside, live)
    except DeconvnetError:
        raise
    except Exception as error:  # tables can be damaged in every way
        raise DeconvnetError(
            f"The atlas in {folder} is damaged, so make it again ({type(error).__name__}: {error})."
        ) from error


def _page_files(folder: Path, beside: Sequence[str], live: str) -> dict[str, bytes]:
    description = json.loads((folder / "atlas.json").read_text(encoding="utf-8"))
    title = html.escape(f"Atlas of {description['network']['full_name']}")
    pages = {}
    for name, content in shared_assets().items():
        if name.endswith(".html"):
            pages[name] = Template(content.decode()).substitute(title=title).encode("utf-8", "surrogateescape")
        else:
            pages[f"pages/{name}"] = content
    data = _Tables(folder, description)
    pages["pages/atlas.js"] = _script("atlas", {**data.atlas(), "beside": list(beside), "live": live})
    for number in range(len(description["layers"])):
        pages[f"pages/layer-{number}.js"] = _script(f"layer-{number}", data.layer(number))
        for group, units in enumerate(data.groups(number)):
            pages[f"pages/units-{number}-{group}.js"] = _script(f"units-{number}-{group}", units)
    return pages


def _script(name: str, value: Any) -> bytes:
    return f"receive({json.dumps(name)},{json.dumps(value, separators=(',', ':'), allow_nan=False)});\n".encode()


class _Tables:
    """The tables of an atlas, as the pages need them."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.description = description
        self.layers = [entry["name"] for entry in description["layers"]]
        self.filters = (folder / "filters.png").exists()
        self.units: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in read_table(folder / "units.csv"):
            self.units[row["layer"]].append(row)
        self.hits: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        for row in read_table(folder / "hits.csv"):
            self.hits[row["layer"], row["unit"]].append(row)
        self.images = {row["image"]: row for row in read_table(folder / "images.csv")}
        arrays = read_arrays(folder / "classes.npz")
        self.classes = [str(name) for name in arrays["classes"]]
        image_set = np.maximum(arrays["images"], 1)[:, None]
        self.means = {name: arrays[name] / image_set for name in self.layers}

    def atlas(self) -> dict[str, Any]:
        """What every page needs."""
        described = self.description
        return {
            "network": described["network"]["full_name"],
            "photos": described["images"]["read"],
            "folder": described["images"]["folder"],
            "digest": described["images"]["digest"],
            "top": described["top"],
            "crop": described["preprocessing"]["crop"],
            "classes": named_classes(self.classes),
            "edges": [_short(edge) for edge in described["histogram_edges"]],
            "group": _GROUP,
            "filters": self.filters,
            "layers": [self._entry(number) for number in range(len(self.layers))],
        }

    def _entry(self, number: int) -> dict[str, Any]:
        entry = self.description["layers"][number]
        alive = {int(row["unit"]): float(row["active_share"]) > 0 for row in self.units[entry["name"]]}
        tile = entry["picture"]["height"], entry["picture"]["width"]
        layout = UnitLayout(tile, self.description["top"])
        return {
            "name": entry["name"],
            "units": entry["units"],
            "shown": len(alive),
            "dead": sum(not active for active in alive.values()),
            "map": [entry["rows"], entry["columns"]],
            "field": [entry["field"]["rows"]["size"], entry["field"]["columns"]["size"]],
            "strip": random_units(alive, [0, number])[:_STRIP],
            "picture": {
                "size": layout.page_size,
                "tile": [side * layout.zoom for side in reversed(tile)],
                "blocks": [layout.box(block)[:2] for block in (0, 1)],
                "block": list(reversed(layout.block)),
                "columns": layout.columns,
                "crisp": layout.zoom > 1,
            },
        }

    def layer(self, number: int) -> dict[str, list[Any]]:
        """One number of each unit for all that units are sorted and found by."""
        name = self.layers[number]
        rows, means = self.units[name], self.means[name]
        best = means.argmax(axis=0) if len(means) else np.full(len(rows), -1)
        strongest = [self.hits[name, row["unit"]] for row in rows]
        return {
            "unit": [int(row["unit"]) for row in rows],
            "strength": [_short(hits[0]["value"]) if hits else 0 for hits in strongest],
            "mean": [_short(row["mean_max"]) for row in rows],
            "frequency": [_short(row["active_share"]) for row in rows],
            "selectivity": [_short(row["selectivity"]) if row["selectivity"] else None for row in rows],
            "best": [int(index) if hits else -1 for index, hits in zip(best, strongest, strict=True)],
        }

    def groups(self, number: int) -> list[dict[str, Any]]:
        """Hits, histograms and classes of `_GROUP` units each, and the photos that they name."""
        rows = self.units[self.layers[number]]
        return [self._group(number, first, rows[first : first + _GROUP]) for first in range(0, len(rows), _GROUP)]

    def _group(self, number: int, first: int, rows: list[dict[str, str]]) -> dict[str, Any]:
        name = self.layers[number]
        images, units = {}, []
        for index, row in enumerate(rows, first):
            hits = self.hits[name, row["unit"]]
            images.update({hit["image"]: self.images[hit["image"]] for hit in hits})
            means = self.means[name][:, index]
            units.append(
                {
                    "hits": [[_short(hit[key]) for key in HIT_COLUMNS[3:]] for hit in hits],
                    "histogram": [int(count) for count in list(row.values())[_BEFORE_HISTOGRAM:]],
                    "classes": [
                        [int(best), _short(means[best])]
                        for best in np.argsort(-means, kind="stable")[:_CLASSES]
                        if means[best] > 0
                    ],
                }
            )
        return {"units": units, "images": {image: [row["path"], row["label"]] for image, row in images.items()}}


def _short(value: str | float) -> float | int:
    """A number with no more digits than a page shows."""
    number = float(f"{float(value):.4g}")
    return int(float(value)) if float(value).is_integer() else number
