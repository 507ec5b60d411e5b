"""The paper's Fig. 2 for one layer, composed of the pictures of units that an atlas holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.atlas.render import Panel, UnitLayout, draw_figure, filter_tiles
from deconvnet.errors import UsageError
from deconvnet.mining import draw_random_units

#: Units in a figure when none are chosen.
_RANDOM_UNITS = 16


def layer_figure(
    folder: Path,
    description: dict[str, Any],
    layer: str,
    active: Mapping[int, bool],
    filters: Tensor | None,
    units: Sequence[int] | None = None,
    seed: int = 0,
) -> Image.Image:
    """Projections on the left, patches in the same order on the right; see `Atlas.figure`.

    The units' pictures are read from `folder`: their tiles there are compressed, and the figure shows them as they are.
    `active` has all units of the layer that the atlas shows, ascending, and whether each is active in any image. `filters`
    (units, 3, h, w) are the first layer's, if the atlas has them.
    """
    names = [entry["name"] for entry in description["layers"]]
    if layer not in names:
        raise UsageError(f"This atlas has no layer {layer!r}; it has {', '.join(names)}.")
    index = names.index(layer)
    chosen = random_units(active, seed, index) if units is None else list(units)
    if not chosen or not set(chosen) <= set(active):
        unknown = sorted(set(chosen) - set(active))
        raise UsageError(
            f"This atlas has no unit {unknown[0]} in {layer}." if unknown else "A figure needs at least one unit."
        )

    tile = description["layers"][index]["picture"]
    layout = UnitLayout((tile["height"], tile["width"]), description["top"], tile.get("channels", 3))
    zoom = layout.columns * layout.zoom
    tiles = filter_tiles(filters, shared_scale=False, zoom=zoom) if filters is not None and index == 0 else None
    panels = []
    for unit in chosen:
        with Image.open(folder / layer / f"{unit:04d}.webp") as picture:
            left, right = (picture.crop(layout.box(block)).convert("RGB") for block in (0, 1))
        if tiles is not None:
            left = Image.fromarray(tiles[unit]).resize(right.size, Image.Resampling.NEAREST)
        panels.append(Panel(f"unit {unit}", left, right))
    selection = f"random units, seed {seed}" if units is None and len(chosen) < len(active) else "chosen units"
    top, image_count, noun = description["top"], description["images"]["read"], description["images"].get("noun", "photo")
    if tiles is None:
        half_titles = f"projections of the {top} strongest activations", f"the {top} patches that they come from"
    else:
        half_titles = "filters, each on its own scale", f"the {top} strongest patches"
    return draw_figure(
        panels,
        f"{layer}: what excites its units most among {image_count:,} {noun}s ({selection})",
        " · ".join(filter(None, (description["network"]["full_name"], description.get("input", {}).get("shown_as")))),
        half_titles,
    )


def random_units(active: Mapping[int, bool], seed: int, layer_index: int) -> list[int]:
    """A random subset of the units that are ever active, as in the paper; of all units if none is.

    The draw depends only on the arguments: `active` has the atlas's units, ascending; `layer_index` is from 0.
    """
    count = min(_RANDOM_UNITS, sum(active.values()) or len(active))
    indices = draw_random_units(list(active.values()), count, np.random.default_rng([seed, layer_index]))
    return [list(active)[index] for index in indices]
