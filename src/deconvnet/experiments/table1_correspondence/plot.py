"""The figure of a correspondence, like the paper's Fig. 8: a row for each image, a column for each masked part."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.formatting import shorten
from deconvnet.projection.picture import tile_grid

#: Images that the figure shows, at most.
MAX_SHOWN_IMAGES = 12

# Pixels: a picture, the gap between two; per inch.
_PICTURE, _GAP, _DPI = 150, 6, 150

# Inches: a picture and its gap; left margin; top margin down to the pictures.
_STEP, _LEFT_MARGIN, _TOP_MARGIN = (_PICTURE + _GAP) / _DPI, 0.2, 1.0

#: Letters of a part's name that fit above its column.
_MAX_TITLE_LENGTH = 16


def correspondence_figure(
    network_name: str, pictures: np.ndarray, column_titles: Sequence[str], findings: Sequence[str], footnote: str
) -> Figure:
    """Fig. 8 with the `findings` below it; `pictures` are (images, columns, crop, crop, 3) uint8."""
    shown = pictures[:MAX_SHOWN_IMAGES]
    width = max(_LEFT_MARGIN * 2 + _STEP * len(column_titles), 8.0)
    lines = [line for finding in findings for line in textwrap.wrap(finding, int(width * 14.5), subsequent_indent="   ")]
    height = _TOP_MARGIN + _STEP * len(shown) + 0.2 * len(lines) + 0.6
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    title = f"Correspondence: {network_name}"
    fitting_font_size = (width - 2 * _LEFT_MARGIN) * 72 / (0.69 * len(title))  # a bold letter is about 0.69 em wide
    add_text_inches(figure, _LEFT_MARGIN, 0.35, title, fontsize=min(11, fitting_font_size), fontweight="bold")
    subtitle = "Δ: the share of activations whose change differs in sign; the lower, the more consistent"
    add_text_inches(figure, _LEFT_MARGIN, 0.6, subtitle, fontsize=7)
    for column, name in enumerate(column_titles):
        text = shorten(name, _MAX_TITLE_LENGTH)
        add_text_inches(figure, _LEFT_MARGIN + column * _STEP, _TOP_MARGIN - 0.08, text, fontsize=7)
    tiles = [
        np.asarray(Image.fromarray(picture).resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS))
        for picture in shown.reshape(-1, *shown.shape[2:])
    ]
    grid = tile_grid(np.stack(tiles), len(column_titles), gap=_GAP, background=255)
    axes = add_axes_inches(figure, _LEFT_MARGIN, _TOP_MARGIN, grid.shape[1] / _DPI, grid.shape[0] / _DPI)
    axes.imshow(grid)
    axes.axis("off")
    findings_top = _TOP_MARGIN + _STEP * len(shown) + 0.25
    for index, line in enumerate(lines):
        add_text_inches(figure, _LEFT_MARGIN, findings_top + 0.2 * index, line, fontsize=7)
    add_text_inches(figure, _LEFT_MARGIN, height - 0.12, footnote, fontsize=5.5, color="0.35")
    return figure
