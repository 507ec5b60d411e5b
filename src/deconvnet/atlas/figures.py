"""The paper's Fig. 2 for one layer, put together from the pictures of units that an atlas holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deconvnet.atlas.render import (
    Panel,
    UnitLayout,
    figure,
    filter_tiles,
)
from deconvnet.atlas.tables import read_table
from deconvnet.errors import UsageError

#: Units in a figure when none are named.
_IN_FIGURE = 16


def layer_figure(
    folder: Path, description: dict[str, Any], layer: str, units: Sequence[int] | None = None, seed: int = 0
) -> Image.Image:
    """Projections on the left, patches in the same order on the right; see `Atlas.figure`."""
    entry = next((entry for entry in description["layers"] if entry["name"] == layer), None)
    if entry is None:
        raise UsageError(f"This atlas has no layer {layer!r}; it has {', '.join(e['name'] for e in description['layers'])}.")
    rows = [row for row in read_table(folder / "units.csv") if row["layer"] == layer]
    here = {int(row["unit"]): float(row["active_share"]) > 0 for row in rows}
    number = [entry["name"] for entry in description["layers"]].index(layer)
    chosen = random_units(here, [seed, number]) if units is None else list(units)
    if not chosen or not set(chosen) <= set(here):
        wrong = sorted(set(chosen) - set(here))
        raise UsageError(f"This atlas has no unit {wrong[0]} in {layer}." if wrong else "A figure needs at least one unit.")

    tile = (entry["picture"]["height"], entry["picture"]["width"])
    layout = UnitLayout(tile, description["top"])
    filters = _filters(folder) if number == 0 else None
    panels = []
    for unit in chosen:
        with Image.open(folder / layer / f"{unit:04d}.webp") as page:
            left, right = (page.crop(layout.box(block)).convert("RGB") for block in (0, 1))
        if filters is not None:
            left = Image.fromarray(filters[unit]).resize(right.size, Image.Resampling.NEAREST)
        panels.append(Panel(f"unit {unit}", left, right))
    how = f"random units, seed {seed}" if units is None and len(chosen) < len(here) else "chosen units"
    top, photos = description["top"], description["images"]["read"]
    left_half = (
        "filters, each on its own scale" if filters is not None else f"projections of the {top} strongest activations"
    )
    return figure(
        panels,
        f"{layer}: what excites its units most among {photos:,} photos ({how})",
        description["network"]["full_name"],
        (left_half, f"the {top} patches that they come from" if filters is None else f"the {top} strongest patches"),
    )


def random_units(alive: dict[int, bool], seed: list[int]) -> list[int]:
    """A random subset of the units that are ever active, as in the paper; of all if none is."""
    pool = [unit for unit, active in alive.items() if active] or list(alive)
    drawn = np.random.default_rng(seed).choice(pool, size=min(_IN_FIGURE, len(pool)), replace=False)
    return sorted(int(unit) for unit in drawn)


def _filters(folder: Path) -> np.ndarray | None:
    """The first layer's filters, each on its own scale, or None if the atlas has none."""
    file = folder / "filters.npy"
    if not file.exists():
        return None
    return filter_tiles(torch.from_numpy(np.load(file, allow_pickle=False)), shared_scale=False)
