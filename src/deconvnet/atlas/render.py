"""Pictures of units in the paper's style: nine projections next to the nine patches that they come from.

Drawn pixel by pixel rather than with a plotting library, so that a patch of 11×11 pixels is seen as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from deconvnet.data.channel_pictures import channels_as_rgb, fit_tiles, rgb_size
from deconvnet.models import Network
from deconvnet.projection import display_scale, picture
from deconvnet.projection.picture import MID_GREY, tile_gap, tile_grid, to_levels
from deconvnet.storage import buffered
from deconvnet.tracing import Box

_BACKGROUND, _TEXT, _SECONDARY_TEXT = (255, 255, 255), (20, 20, 20), (90, 90, 90)
_DIVIDER = (200, 200, 200)
#: Frames of receptive fields.
_FRAME = (255, 176, 0)
_MARGIN = 12

#: Width of one block in a thumbnail, in pixels.
_THUMBNAIL_WIDTH = 150

#: Small patches are enlarged to at least this many pixels: those of units, and filters on a sheet.
_MIN_PATCH, _MIN_FILTER = 84, 44

#: Width of a picture without its margins, at least: room for the heading.
_MIN_WIDTH = 480


@dataclass(frozen=True)
class UnitLayout:
    """Geometry of the picture of one unit, so that its blocks can be cropped from it again."""

    patch: tuple[int, int]
    """Height and width of one patch in pixels of the network's input."""
    top: int
    """Patches in a block."""
    channels: int = 3
    """Channels of a projection or a patch, whichever has more to show (`layout_channels`)."""

    HEADER = 46
    """Height of the heading, in pixels."""

    @property
    def zoom(self) -> int:
        """Integer factor by which small patches are enlarged."""
        return max(1, math.ceil(_MIN_PATCH / max(rgb_size(self.patch, self.channels))))

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of one tile: an enlarged patch, or the grid of its channels."""
        height, width = self.patch
        return rgb_size((height * self.zoom, width * self.zoom), self.channels)

    @property
    def gap(self) -> int:
        """Pixels between two tiles."""
        return tile_gap(self.channels)

    @property
    def columns(self) -> int:
        """Patches in a row of a block."""
        return math.ceil(math.sqrt(self.top))

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of one block of patches."""
        rows = math.ceil(self.top / self.columns)
        height, width = (side + self.gap for side in self.tile)
        return rows * height - self.gap, self.columns * width - self.gap

    def box(self, block: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of block 0 (projections) or 1 (patches)."""
        height, width = self.block
        left = _MARGIN + block * (width + _MARGIN)
        return left, self.HEADER, left + width, self.HEADER + height

    @property
    def page_size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        height, width = self.block
        return _page_size(2 * width + _MARGIN, height)


def layout_channels(network: Network) -> int:
    """Channels of the network's projections or of its inputs as they are shown, whichever take more room."""
    return max(network.input_shape[0], network.input_space.shown_channels, key=lambda channels: rgb_size((1, 1), channels))


def unit_picture(projections: Tensor, patches: np.ndarray, layout: UnitLayout, heading: str, network: str) -> Image.Image:
    """One unit: projections (n, C, h, w) on the left, patches (n, h, w, C) uint8 on the right, n at most `layout.top`.

    The projections share one grey scale, symmetric about zero (see `display_scale`). Tiles without a hit stay grey.
    """
    height, width = layout.block
    blocks = Image.new("RGB", (2 * width + _MARGIN, height), _BACKGROUND)
    levels = to_levels(projections, display_scale(projections))
    for block, block_levels in enumerate((levels, patches)):
        tiles = np.full((layout.top, *layout.tile, 3), MID_GREY, dtype=np.uint8)
        enlarged = block_levels.repeat(layout.zoom, axis=1).repeat(layout.zoom, axis=2)
        tiles[: len(enlarged)] = fit_tiles(channels_as_rgb(enlarged), layout.tile)
        grid = Image.fromarray(tile_grid(tiles, layout.columns, layout.gap))
        blocks.paste(grid, (block * (width + _MARGIN), 0))
    if not len(patches):
        heading += ": never active"
    elif not projections.any():
        heading += ": nothing in the photos excites it, only its bias does"
    return _page(blocks, heading, network)


def unit_thumbnail(picture: Image.Image, layout: UnitLayout) -> Image.Image:
    """The two blocks of a unit's picture, reduced, side by side without a gap: projections, patches."""
    height, width = layout.block
    size = _THUMBNAIL_WIDTH, max(1, round(_THUMBNAIL_WIDTH * height / width))
    thumbnail = Image.new("RGB", (2 * size[0], size[1]))
    for block in (0, 1):
        thumbnail.paste(picture.resize(size, Image.Resampling.LANCZOS, layout.box(block)), (block * size[0], 0))
    return thumbnail


def filter_tiles(filters: Tensor, shared_scale: bool = True, zoom: int = 1) -> np.ndarray:
    """First-layer filters (units, C, h, w) as (units, h', w', 3) uint8, enlarged; zero is mid-grey.

    They share one scale, or each has its own.
    """
    scales = [float(filters.abs().max())] * len(filters) if shared_scale else [float(one.abs().max()) for one in filters]
    levels = np.stack([to_levels(one, scale or 1.0) for one, scale in zip(filters, scales, strict=True)])
    return channels_as_rgb(levels.repeat(zoom, axis=1).repeat(zoom, axis=2))


def filter_sheet(filters: Tensor, network: str, columns: int = 11) -> Image.Image:
    """All first-layer filters (units, C, h, w) on one scale, `columns` to a row, as in the paper's Fig. 6."""
    count, channels, height, width = filters.shape
    zoom = max(1, math.ceil(_MIN_FILTER / max(rgb_size((height, width), channels))))
    sheet = Image.fromarray(tile_grid(filter_tiles(filters, zoom=zoom), columns, gap=2 * tile_gap(channels)))
    return _page(sheet, f"{count} first-layer filters, {height}×{width} pixels, one scale", network)


def projection_picture(projection: Tensor, view: np.ndarray, box: Box, heading: str, network: str) -> Image.Image:
    """One projection (3, H, W) next to the view (H, W, 3) uint8 of its image, the receptive field `box` framed in both.

    Unless the field is the whole view, it is shown enlarged in a second row.
    """
    height, width = 2 * view.shape[0], 2 * view.shape[1]
    pair = [picture(projection), Image.fromarray(view)]
    rows = [[tile.resize((width, height), Image.Resampling.NEAREST) for tile in pair]]
    if (box.right - box.left, box.bottom - box.top) != (view.shape[1], view.shape[0]):
        for tile in rows[0]:
            left, top, right, bottom = (2 * edge for edge in box)
            ImageDraw.Draw(tile).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME, width=2)
        rows.append([ImageOps.pad(tile.crop(box), (width, height), Image.Resampling.NEAREST, _BACKGROUND) for tile in pair])
    tiles = np.stack([np.asarray(tile) for row in rows for tile in row])
    return _page(Image.fromarray(tile_grid(tiles, 2, gap=_MARGIN, background=255)), heading, network)


@dataclass(frozen=True)
class Panel:
    """One unit in a figure of several units."""

    caption: str
    left: Image.Image
    """The unit's projections, or its filter."""
    right: Image.Image
    """The unit's patches."""


def draw_figure(
    panels: Sequence[Panel], heading: str, network: str, half_titles: tuple[str, str], max_block: int = 300
) -> Image.Image:
    """The paper's Fig. 2 for one layer: `left` of all panels in the left half, `right` in the same order in the right half.

    Each block is scaled to at most `max_block` pixels in width and height.
    """
    columns = max(1, round(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    widest, tallest = max(panel.right.width for panel in panels), max(panel.right.height for panel in panels)
    ratio = max_block / max(widest, tallest)
    width, height = round(widest * ratio), round(tallest * ratio)
    caption, header, gutter = 26, 116, 4 * _MARGIN
    half = max(columns * (width + _MARGIN) - _MARGIN, 520)  # room for the headings of few units
    page = Image.new("RGB", (2 * _MARGIN + 2 * half + gutter, header + rows * (height + caption + _MARGIN)), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 10), fit_text(heading, page.width - 2 * _MARGIN, 28), _TEXT, font(28))
    draw.text((_MARGIN, 48), fit_text(network, page.width - 2 * _MARGIN, 20), _SECONDARY_TEXT, font(20))
    for offset, title in zip((0, half + gutter), half_titles, strict=True):
        draw.text((_MARGIN + offset, header - 32), fit_text(title, half, 22), _TEXT, font(22))
    middle = _MARGIN + half + gutter // 2
    draw.line((middle, header - 30, middle, page.height - _MARGIN), _DIVIDER, 2)
    for index, panel in enumerate(panels):
        left = _MARGIN + index % columns * (width + _MARGIN)
        top = header + index // columns * (height + caption + _MARGIN)
        for offset, block in ((0, panel.left), (half + gutter, panel.right)):
            # Small patches stay crisp squares; large ones are reduced smoothly.
            method = Image.Resampling.NEAREST if block.width < width else Image.Resampling.LANCZOS
            draw.text((left + offset, top), panel.caption, _TEXT, font(18))
            page.paste(block.resize((width, height), method), (left + offset, top + caption))
    return page


def _page(content: Image.Image, heading: str, network: str) -> Image.Image:
    """`content` below the heading and the network's full name."""
    page = Image.new("RGB", _page_size(*content.size), _BACKGROUND)
    draw, width = ImageDraw.Draw(page), page.width - 2 * _MARGIN
    draw.text((_MARGIN, 8), fit_text(heading, width, 15), _TEXT, font(15))
    draw.text((_MARGIN, 27), fit_text(network, width, 11), _SECONDARY_TEXT, font(11))
    page.paste(content, (_MARGIN, UnitLayout.HEADER))
    return page


def _page_size(width: int, height: int) -> tuple[int, int]:
    return max(width, _MIN_WIDTH) + 2 * _MARGIN, height + UnitLayout.HEADER + _MARGIN


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's bundled sans-serif font, so that pictures are the same on every machine."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def fit_text(text: str, width: int, size: int) -> str:
    """`text`, with an ellipsis in place of its middle if it is wider than `width` pixels in the font of that `size`."""
    length = len(text)
    while font(size).getlength(text) > width and length > 8:
        length -= 2
        text = f"{text[: length // 2].rstrip()}…{text[-(length // 2) :].lstrip()}"
    return text


def save_picture(picture: Image.Image, file: Path, **options: Any) -> None:
    """Write a picture in the format of its suffix. Raises `OSError` with the system's reason if it cannot be written."""
    with buffered(file) as buffer:
        picture.save(buffer, format=file.suffix[1:], **options)
