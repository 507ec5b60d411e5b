"""Pictures of units in the paper's style: nine projections beside the nine patches that they come from.

Drawn pixel by pixel rather than with a plotting library, because a patch of 11×11 pixels should be seen as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from deconvnet.projection import display_scale, picture, to_pixels
from deconvnet.projection.picture import MID_GREY, tile_grid
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
