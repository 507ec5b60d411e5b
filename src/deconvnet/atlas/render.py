"""Pictures of units in the paper's style: nine projections beside the nine patches that they come from.

Drawn pixel by pixel rather than with a plotting library, because a patch of 11×11 pixels should be seen as it is.
"""

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from deconvnet.atlas.project_units import UnitProjections, picture_size, project_units
from deconvnet.atlas.work import AtlasWork
from deconvnet.mining import MiningResult
from deconvnet.models import Network
from deconvnet.progress import bar, say
from deconvnet.projection import display_scale, picture, to_pixels
from deconvnet.projection.picture import MID_GREY, tile_grid
from deconvnet.storage import write_via_buffer
from deconvnet.tracing import Box

_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (90, 90, 90)
#: Frames of receptive fields.
_FRAME = (255, 176, 0)
_MARGIN = 12

#: Width of one block in a thumbnail, in pixels.
_THUMBNAIL = 150


@dataclass(frozen=True)
class UnitLayout:
    """Where things stand in the picture of one unit, so that they can be cut out of it again."""

    tile: tuple[int, int]
    """Height and width of one patch in pixels of the network's input."""
    top: int
    """Patches in a block."""

    HEADER = 46

    @property
    def zoom(self) -> int:
        """Whole-numbered enlargement of small patches."""
        return max(1, math.ceil(84 / max(self.tile)))

    @property
    def columns(self) -> int:
        return math.ceil(math.sqrt(self.top))

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of one block of patches."""
        rows = math.ceil(self.top / self.columns)
        height, width = (side * self.zoom + 1 for side in self.tile)
        return rows * height - 1, self.columns * width - 1

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of block 0 (projections) or 1 (patches)."""
        height, width = self.block
        left = _MARGIN + number * (width + _MARGIN)
        return left, self.HEADER, left + width, self.HEADER + height

    @property
    def page_size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        height, width = self.block
        return _page_size(2 * width + _MARGIN, height)


def unit_picture(projections: Tensor, patches: np.ndarray, layout: UnitLayout, heading: str, network: str) -> Image.Image:
    """One unit: projections (n, 3, h, w) on the left, patches (n, h, w, 3) uint8 on the right, n at most `layout.top`.

    The projections share one grey scale, symmetric about zero (see `display_scale`). Places without a hit stay grey.
    """
    height, width = layout.block
    blocks = Image.new("RGB", (2 * width + _MARGIN, height), _PAPER)
    tiles = to_pixels(projections, display_scale(projections))
    for number, found in enumerate((tiles, patches)):
        full = np.full((layout.top, *layout.tile, 3), MID_GREY, dtype=np.uint8)
        full[: len(found)] = found
        enlarged = full.repeat(layout.zoom, axis=1).repeat(layout.zoom, axis=2)
        blocks.paste(Image.fromarray(tile_grid(enlarged, layout.columns)), (number * (width + _MARGIN), 0))
    if not len(patches):
        heading += ": never active"
    elif not projections.any():
        heading += ": nothing in the photos excites it, only its bias does"
    return _page(blocks, heading, network)


def unit_thumbnail(picture: Image.Image, layout: UnitLayout) -> Image.Image:
    """The two blocks of a unit's picture, small, side by side without a gap: projections, patches."""
    height, width = layout.block
    size = _THUMBNAIL, max(1, round(_THUMBNAIL * height / width))
    small = Image.new("RGB", (2 * size[0], size[1]))
    for block in (0, 1):
        small.paste(picture.resize(size, Image.Resampling.LANCZOS, layout.box(block)), (block * size[0], 0))
    return small


def filter_tiles(filters: Tensor, shared_scale: bool = True) -> np.ndarray:
    """First-layer filters (units, 3, h, w) as (units, h, w, 3) uint8, zero grey; one scale for all, or one for each."""
    if shared_scale:
        return to_pixels(filters, float(filters.abs().max()) or 1.0)
    return np.stack([to_pixels(one, float(one.abs().max()) or 1.0) for one in filters])


def filter_sheet(filters: Tensor, network: str, columns: int = 11) -> Image.Image:
    """All first-layer filters (units, 3, h, w) on one scale, `columns` to a row, as in the paper's Fig. 6."""
    tiles = filter_tiles(filters)
    zoom = max(1, math.ceil(44 / max(tiles.shape[1:3])))
    sheet = Image.fromarray(tile_grid(tiles.repeat(zoom, axis=1).repeat(zoom, axis=2), columns, gap=2))
    count, height, width, _ = tiles.shape
    return _page(sheet, f"{count} first-layer filters, {height}×{width} pixels, one scale", network)


def projection_picture(projection: Tensor, view: np.ndarray, box: Box, heading: str, network: str) -> Image.Image:
    """One projection (3, H, W) beside the view (H, W, 3) of the photo that it comes from, with its receptive field `box`
    framed; below, unless it is all of the view, the field alone in both, enlarged.
    """
    height, width = 2 * view.shape[0], 2 * view.shape[1]
    whole = [picture(projection), Image.fromarray(view)]
    rows = [[tile.resize((width, height), Image.Resampling.NEAREST) for tile in whole]]
    if (box.right - box.left, box.bottom - box.top) != (view.shape[1], view.shape[0]):
        for tile in rows[0]:
            left, top, right, bottom = (2 * edge for edge in box)
            ImageDraw.Draw(tile).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME, width=2)
        rows.append([ImageOps.pad(tile.crop(box), (width, height), Image.Resampling.NEAREST, _PAPER) for tile in whole])
    tiles = np.stack([np.asarray(tile) for row in rows for tile in row])
    return _page(Image.fromarray(tile_grid(tiles, 2, gap=_MARGIN, background=255)), heading, network)


@dataclass(frozen=True)
class Panel:
    """One unit in a figure of several: what stands on the left, and its patches."""

    caption: str
    left: Image.Image
    right: Image.Image


def figure(panels: Sequence[Panel], heading: str, network: str, halves: tuple[str, str], side: int = 300) -> Image.Image:
    """The paper's Fig. 2 for one layer: blocks of several units on the left, their patches in the same order on the right.

    `halves` say what stands on the left and on the right; each block is drawn `side` pixels wide or smaller.
    """
    columns = max(1, round(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    widest, tallest = max(panel.right.width for panel in panels), max(panel.right.height for panel in panels)
    ratio = side / max(widest, tallest)
    width, height = round(widest * ratio), round(tallest * ratio)
    caption, header, gutter = 26, 116, 4 * _MARGIN
    half = max(columns * (width + _MARGIN) - _MARGIN, 520)  # room for the headings over few units
    page = Image.new("RGB", (2 * _MARGIN + 2 * half + gutter, header + rows * (height + caption + _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 10), fitting(heading, page.width - 2 * _MARGIN, 28), _INK, font(28))
    draw.text((_MARGIN, 48), fitting(network, page.width - 2 * _MARGIN, 20), _FAINT, font(20))
    for offset, title in zip((0, half + gutter), halves, strict=True):
        draw.text((_MARGIN + offset, header - 32), fitting(title, half, 22), _INK, font(22))
    middle = _MARGIN + half + gutter // 2
    draw.line((middle, header - 30, middle, page.height - _MARGIN), (200, 200, 200), 2)
    for number, panel in enumerate(panels):
        left = _MARGIN + number % columns * (width + _MARGIN)
        top = header + number // columns * (height + caption + _MARGIN)
        for offset, block in ((0, panel.left), (half + gutter, panel.right)):
            # Small patches stay crisp squares; large ones are averaged down.
            method = Image.Resampling.NEAREST if block.width < width else Image.Resampling.LANCZOS
            draw.text((left + offset, top), panel.caption, _INK, font(18))
            page.paste(block.resize((width, height), method), (left + offset, top + caption))
    return page


def _page(content: Image.Image, heading: str, network: str) -> Image.Image:
    """`content` under two lines: what it shows, and the network's full name."""
    page = Image.new("RGB", _page_size(*content.size), _PAPER)
    draw, width = ImageDraw.Draw(page), page.width - 2 * _MARGIN
    draw.text((_MARGIN, 8), fitting(heading, width, 15), _INK, font(15))
    draw.text((_MARGIN, 27), fitting(network, width, 11), _FAINT, font(11))
    page.paste(content, (_MARGIN, UnitLayout.HEADER))
    return page


def _page_size(width: int, height: int) -> tuple[int, int]:
    return max(width, 480) + 2 * _MARGIN, height + UnitLayout.HEADER + _MARGIN  # 480: room for the words


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The sans-serif font that comes with matplotlib, so that pictures are the same on every machine."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def fitting(text: str, width: int, size: int) -> str:
    """`text`, its middle left out if it is wider than `width` pixels."""
    cut = len(text)
    while font(size).getlength(text) > width and cut > 8:
        cut -= 2
        text = f"{text[: cut // 2].rstrip()}…{text[-(cut // 2) :].lstrip()}"
    return text


#: Hits of a group of units, which are projected together and recorded together. Groups are the same in every run, because
#: what stands beside a hit in its batch may change the last bits of its projection.
_HITS_IN_GROUP = 288


def draw_units(
    network: Network,
    mined: MiningResult,
    chosen: dict[str, list[int]],
    work: AtlasWork,
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
                writers.afterwards(partial(work.record_drawn, name, differences))


def _go_on(mined: MiningResult, chosen: dict[str, list[int]], work: AtlasWork) -> None:
    """Let `work` find out what was drawn already."""

    def pictures(layer: str, unit: int) -> list[Path]:
        images = mined[layer].strongest.images[unit]
        views = [_view_file(work.atlas, image) for image in images[images >= 0].tolist()]
        return [_unit_file(work.atlas, layer, unit), _thumbnail_file(work.atlas, layer, unit), *views]

    digest = hashlib.sha256((work.atlas / "hits.csv").read_bytes()).hexdigest()
    work.resume_drawing(digest, chosen, pictures)


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
