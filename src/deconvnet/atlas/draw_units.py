"""Project and draw the units of an atlas, group by group, each recorded when its pictures are on the disk."""

import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from deconvnet.atlas.project_units import UnitProjections, picture_size, project_units
from deconvnet.atlas.render import UnitLayout, unit_picture, unit_thumbnail
from deconvnet.atlas.work import Unfinished
from deconvnet.mining import MiningResult
from deconvnet.models import Network
from deconvnet.progress import bar, say
from deconvnet.storage import write_via_buffer

#: Hits of a group of units, which are projected together and recorded together. Groups are the same in every run, because
#: what stands beside a hit in its batch may change the last bits of its projection.
_HITS_IN_GROUP = 288


def draw_units(
    network: Network,
    mined: MiningResult,
    chosen: dict[str, list[int]],
    work: Unfinished,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Draw every chosen unit that no earlier run has drawn, and the views of the photos that they need.

    The tables of `mined` are in `work.atlas` already.

    A group that was not finished is drawn again, over what is there of it.
    """
    _go_on(mined, chosen, work)
    total, before = sum(map(len, chosen.values())), sum(map(len, work.drawn.values()))
    if before:
        say(f"Going on: {before:,} of {total:,} units were drawn.", progress)
    seen = {
        image for name, units in work.drawn.items() for image in mined[name].strongest.images[list(units)].flatten().tolist()
    }
    step = max(1, _HITS_IN_GROUP // mined.top)
    (work.atlas / "images").mkdir(parents=True, exist_ok=True)
    with bar("projecting", total, progress, before) as advance, _Writers() as writers:

        def see_view(image: int, view: np.ndarray) -> None:
            if image not in seen:
                seen.add(image)
                writers.submit(save_picture, Image.fromarray(view), _view_file(work.atlas, image), quality=90, method=4)

        for name, units in chosen.items():
            (work.atlas / name).mkdir(exist_ok=True)
            layout = UnitLayout(picture_size(network, network.layer(name)), mined.top)
            for group in (units[first : first + step] for first in range(0, len(units), step)):
                if set(group) <= set(work.drawn.get(name, ())):
                    continue
                differences: dict[int, float] = {}
                for pieces in project_units(
                    network, mined[name], group, batch_size=batch_size, workers=workers, see_view=see_view
                ):
                    writers.submit(_save_unit, pieces, layout, name, network.full_name, work.atlas)
                    differences[pieces.unit] = pieces.difference
                    advance(1)
                writers.afterwards(partial(work.record, name, differences))


def _go_on(mined: MiningResult, chosen: dict[str, list[int]], work: Unfinished) -> None:
    """Let `work` find out what was drawn already."""

    def pictures(layer: str, unit: int) -> list[Path]:
        images = mined[layer].strongest.images[unit]
        views = [_view_file(work.atlas, image) for image in images[images >= 0].tolist()]
        return [_unit_file(work.atlas, layer, unit), _thumbnail_file(work.atlas, layer, unit), *views]

    digest = hashlib.sha256((work.atlas / "hits.csv").read_bytes()).hexdigest()
    work.go_on_drawing(digest, chosen, pictures)


def _unit_file(folder: Path, layer: str, unit: int) -> Path:
    return folder / layer / f"{unit:04d}.webp"


def _thumbnail_file(folder: Path, layer: str, unit: int) -> Path:
    return folder / layer / f"{unit:04d}-small.webp"


def _view_file(folder: Path, image: int) -> Path:
    return folder / "images" / f"{image:05d}.webp"


def save_picture(picture: Image.Image, file: Path, **options: Any) -> None:
    """Write a picture in the format of its name. Raises `OSError` with the system's own reason if it cannot be written."""
    write_via_buffer(file, lambda encoded: picture.save(encoded, format=file.suffix[1:], **options))


def _save_unit(pieces: UnitProjections, layout: UnitLayout, layer: str, network: str, folder: Path) -> None:
    heading = f"{layer} · unit {pieces.unit}"
    picture = unit_picture(pieces.projections, pieces.patches, layout, heading, network)
    # Enlarged patches are squares of one colour, which compress well and would blur.
    crisp = layout.zoom > 1
    file = _unit_file(folder, layer, pieces.unit)
    save_picture(picture, file, lossless=crisp, quality=50 if crisp else 90, method=2 if crisp else 4)
    save_picture(unit_thumbnail(picture, layout), _thumbnail_file(folder, layer, pieces.unit), quality=80, method=4)


class _Writers:
    """Threads that draw and encode pictures beside the projecting, never far behind it."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self.waiting: deque[Future[None] | Callable[[], None]] = deque()

    def submit(self, work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Do `work` in a thread."""
        self.waiting.append(self.pool.submit(work, *args, **kwargs))
        while len(self.waiting) > 16:
            self._wait_for_one()

    def afterwards(self, work: Callable[[], None]) -> None:
        """Do `work` in this thread, some time after all that was submitted before is done."""
        self.waiting.append(work)

    def _wait_for_one(self) -> None:
        first = self.waiting.popleft()
        if isinstance(first, Future):
            first.result()
        else:
            first()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while self.waiting and kind is None:
                self._wait_for_one()
        finally:
            self.pool.shutdown(cancel_futures=True)
