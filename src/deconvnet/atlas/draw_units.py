"""Draw the pictures of an atlas's units, group by group, so that an interrupted run can resume."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deconvnet.atlas.build_progress import AtlasWork
from deconvnet.atlas.project_units import UnitProjections, project_units
from deconvnet.atlas.render import UnitLayout, layout_channels, save_picture, unit_picture, unit_thumbnail
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.data.loader import prefetch
from deconvnet.environment import core_count
from deconvnet.mining import MiningResult
from deconvnet.models import Network
from deconvnet.progress import print_status, progress_bar

#: Hits of a group of units, which are projected together and recorded together. The groups are the same in every run,
#: because the other hits in its batch may change the last bits of a projection.
_HITS_IN_GROUP = 288

#: Units that may wait to be drawn. More would take memory without drawing any sooner.
_MAX_QUEUED = 8


@dataclass(frozen=True)
class _Drawing:
    """What is drawn of one unit."""

    layer: str
    unit: UnitProjections
    layout: UnitLayout
    new_views: dict[int, np.ndarray]
    """Views that no earlier unit has saved, by image."""
    ends_group: bool


def draw_units(
    network: Network,
    result: MiningResult,
    units: dict[str, list[int]],
    work: AtlasWork,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Draw those of `units` (by layer) that are not in `work.drawn`, and the views of the images of their hits.

    A group of units that an earlier run did not finish is drawn again, over its files.
    """
    total, drawn_before = sum(map(len, units.values())), sum(map(len, work.drawn.values()))
    if drawn_before:
        print_status(f"Resuming: {drawn_before:,} of {total:,} units were drawn.", progress)
    for folder in ("images", *units):
        (work.atlas / folder).mkdir(parents=True, exist_ok=True)

    def save(drawing: _Drawing) -> _Drawing:
        _save_drawing(drawing, work, network)
        return drawing

    # Threads draw, encode and write while the network projects.
    threads = min(_MAX_QUEUED, core_count())
    with (
        progress_bar("projecting", total, progress, drawn_before) as advance,
        closing(_project_remaining(network, result, units, work, batch_size, workers)) as drawings,
        closing(prefetch(save, drawings, threads, _MAX_QUEUED)) as saved,
    ):
        differences: dict[int, float] = {}
        for drawing in saved:
            differences[drawing.unit.unit] = drawing.unit.difference
            advance(1)
            if drawing.ends_group:
                work.record_drawn(drawing.layer, differences)
                differences = {}


def _project_remaining(
    network: Network,
    result: MiningResult,
    units: dict[str, list[int]],
    work: AtlasWork,
    batch_size: int,
    workers: int | None,
) -> Generator[_Drawing]:
    """Project the units that are not drawn, layer by layer and group by group."""
    saved_views = {
        image for layer, drawn in work.drawn.items() for image in result[layer].topk.images[list(drawn)].flatten().tolist()
    }
    group_size = max(1, _HITS_IN_GROUP // result.top)
    for layer, layer_units in units.items():
        layout = UnitLayout(network.layer(layer).field.patch_size, result.top, layout_channels(network))
        drawn = set(work.drawn.get(layer, ()))
        for group in (layer_units[first : first + group_size] for first in range(0, len(layer_units), group_size)):
            if set(group) <= drawn:
                continue
            with closing(project_units(network, result[layer], group, batch_size=batch_size, workers=workers)) as projected:
                for unit in projected:
                    new_views = {image: view for image, view in unit.views.items() if image not in saved_views}
                    saved_views |= new_views.keys()
                    yield _Drawing(layer, unit, layout, new_views, ends_group=unit.unit == group[-1])


def _save_drawing(drawing: _Drawing, work: AtlasWork, network: Network) -> None:
    exact = not network.input_space.shows_pixels  # what is no photo may be small, and is no picture for a lossy format
    for image, view in drawing.new_views.items():
        picture = Image.fromarray(channels_as_rgb(view))
        save_picture(picture, work.view_file(image), lossless=exact, quality=90, method=4)
    unit, layer, layout = drawing.unit, drawing.layer, drawing.layout
    caption = network.input_space.caption(network.full_name)
    picture = unit_picture(unit.projections, unit.patches, layout, f"{layer} · unit {unit.unit}", caption)
    # Enlarged patches are squares of one colour, which compress well losslessly and would blur otherwise.
    lossless = layout.zoom > 1
    quality, method = (50, 2) if lossless else (90, 4)
    save_picture(picture, work.unit_file(layer, unit.unit), lossless=lossless, quality=quality, method=method)
    save_picture(unit_thumbnail(picture, layout), work.thumbnail_file(layer, unit.unit), quality=80, method=4)
