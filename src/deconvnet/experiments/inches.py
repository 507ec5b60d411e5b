"""Figures that are laid out in inches from their upper left corner, so that pictures can stand pixel upon pixel."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Axes whose upper left corner is there."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down), **options)


def write_at(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    """Words whose lower left corner is there."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - bottom / down, text, parse_math=False, **style)
