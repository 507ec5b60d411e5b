"""Draw the pictures of an atlas's units, group by group, so that an interrupted run can resume."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from deconvnet.atlas.build_progress import AtlasWork
from deconvnet.atlas.project_units import UnitProjections, project_units
from deconvnet.atlas.render import UnitLayout, save_picture, unit_picture, unit_thumbnail
from deconvnet.mining import MiningResult
from deconvnet.models import Network
from deconvnet.progress import print_status, progress_bar

#: Hits of a group of units, which are projected together and recorded together. The groups are the same in every run,
#: because the other hits in its batch may change the last bits of a projection.
_HITS_IN_GROUP = 288

#: Pictures that may wait to be written. More would take memory without writing any sooner.
_MAX_QUEUED = 16


def draw_units(
    network: Network,
    result: MiningResult,
    units: dict[str, list[int]],
    work: AtlasWork,
    hits_digest: str,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Draw those of `units` (by layer) that no earlier run has drawn, and the views of the images of their hits.

    `hits_digest` identifies the hits of `result`; pictures of other hits are removed. A group of units that an earlier run
    did not finish is drawn again, over its files.
    """

    def unit_files(layer: str, unit: int) -> list[Path]:
        images = result[layer].topk.images[unit]
        views = [_view_file(work.atlas, image) for image in images[images >= 0].tolist()]
        return [_unit_file(work.atlas, layer, unit), _thumbnail_file(work.atlas, layer, unit), *views]

    work.resume_drawing(hits_digest, units, unit_files)
    total, drawn_before = sum(map(len, units.values())), sum(map(len, work.drawn.values()))
    if drawn_before:
        print_status(f"Going on: {drawn_before:,} of {total:,} units were drawn.", progress)
    saved_views = {
        image for layer, drawn in work.drawn.items() for image in result[layer].topk.images[list(drawn)].flatten().tolist()
    }
    group_size = max(1, _HITS_IN_GROUP // result.top)
    (work.atlas / "images").mkdir(parents=True, exist_ok=True)
    with progress_bar("projecting", total, progress, drawn_before) as advance, _Writer() as writer:
        for layer, layer_units in units.items():
            (work.atlas / layer).mkdir(exist_ok=True)
            layout = UnitLayout(network.layer(layer).field.patch_size, result.top)
            for group in (layer_units[first : first + group_size] for first in range(0, len(layer_units), group_size)):
                if set(group) <= set(work.drawn.get(layer, ())):
                    continue
                differences: dict[int, float] = {}
                with closing(
                    project_units(network, result[layer], group, batch_size=batch_size, workers=workers)
                ) as projected:
                    for unit in projected:
                        for image, view in unit.views.items():
                            if image not in saved_views:
                                saved_views.add(image)
                                file = _view_file(work.atlas, image)
                                writer.submit(save_picture, Image.fromarray(view), file, quality=90, method=4)
                        writer.submit(_save_unit, unit, layout, layer, network.full_name, work.atlas)
                        differences[unit.unit] = unit.difference
                        advance(1)
                writer.call_when_written(partial(work.record_drawn, layer, differences))


def _unit_file(folder: Path, layer: str, unit: int) -> Path:
    return folder / layer / f"{unit:04d}.webp"


def _thumbnail_file(folder: Path, layer: str, unit: int) -> Path:
    return folder / layer / f"{unit:04d}-small.webp"


def _view_file(folder: Path, image: int) -> Path:
    return folder / "images" / f"{image:05d}.webp"


def _save_unit(unit: UnitProjections, layout: UnitLayout, layer: str, network: str, folder: Path) -> None:
    heading = f"{layer} · unit {unit.unit}"
    picture = unit_picture(unit.projections, unit.patches, layout, heading, network)
    # Enlarged patches are squares of one colour, which compress well losslessly and would blur otherwise.
    lossless = layout.zoom > 1
    file = _unit_file(folder, layer, unit.unit)
    save_picture(picture, file, lossless=lossless, quality=50 if lossless else 90, method=2 if lossless else 4)
    save_picture(unit_thumbnail(picture, layout), _thumbnail_file(folder, layer, unit.unit), quality=80, method=4)


class _Writer:
    """Threads that draw, encode and write pictures while the network projects, at most `_MAX_QUEUED` pictures behind it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self._queue: deque[Callable[[], None]] = deque()
        """To be called in order, in the caller's thread: waiting for a picture, or what has to follow earlier pictures."""

    def submit(self, task: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call `task` in a thread. Raises what an earlier task raised."""
        self._queue.append(self._threads.submit(task, *args, **kwargs).result)
        while len(self._queue) > _MAX_QUEUED:
            self._queue.popleft()()

    def call_when_written(self, function: Callable[[], None]) -> None:
        """Call `function` in this thread, at some time after everything submitted before is done."""
        self._queue.append(function)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._queue and error_type is None:
                self._queue.popleft()()
        finally:
            self._threads.shutdown(cancel_futures=True)
