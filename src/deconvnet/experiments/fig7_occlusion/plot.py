"""The picture of Fig. 7: five columns, a row for each photo."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import Formatter, PercentFormatter, ScalarFormatter

from deconvnet.experiments.fig7_occlusion.occluded_image import Occluded
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.result import axes_at, write_at
from deconvnet.projection import display_scale, to_pixels
from deconvnet.text import printable

# In inches: a column, between columns, a row, above all, and what stands to the left.
_SIDE, _GAP, _ROW, _ABOVE, _LEFT = 2.5, 0.6, 3.25, 1.05, 0.35
#: Classes that have a colour of their own in all rows; the others share one.
_NAMED = 9
_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#f2c14e", "#7a5195", "#6fc2e8", "#8c6d31", "#f29cab", "#bbbbbb")

Extent = tuple[float, float, float, float]


def occlusion_figure(
    network: str, layer: str, rows: Sequence[Occluded], occluder: Occluder, starts: range, about: str
) -> Figure:
    """Places in maps are the centres of the occluder in the photo: `starts` are its upper and left edges."""
    width, height = _LEFT + 5 * (_SIDE + _GAP) + 1.0, _ABOVE + _ROW * len(rows) + 0.3
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    write_at(figure, _LEFT, 0.35, f"Occlusion: {network}", fontsize=13, fontweight="bold")
    classified = any(row.best is not None for row in rows)
    titles = (
        f"(a) occluder where {'the class is least probable' if classified else 'the unit is least active'}",
        f"(b) {layer}, strongest unit: total activation",
        "(c) its projections; framed: this photo's",
        "(d) probability of the class",
        "(e) most probable class",
    )
    for column, title in enumerate(titles):
        write_at(figure, _LEFT + column * (_SIDE + _GAP), 0.75, title, fontsize=8.5)
    colours = _colours(rows)
    first, last = (edge + occluder.size / 2 for edge in (starts[0], starts[-1]))
    low, high = first - occluder.stride / 2, last + occluder.stride / 2
    for number, row in enumerate(rows):
        top = _ABOVE + _ROW * number
        axes = [axes_at(figure, _LEFT + column * (_SIDE + _GAP), top, _SIDE, _SIDE) for column in range(5)]
        axes[0].imshow(row.covered)
        label = f"{row.target} ({row.target_by})\n" if row.target else ""
        axes[0].set_xlabel(f"{label}{_short(row.path)}", fontsize=8, parse_math=False)
        _draw_map(figure, axes[1], row.activation, row.whole_activation, (low, high, high, low), ScalarFormatter())
        axes[1].set_xlabel(f"unit {row.unit}; without occluder {row.whole_activation:.4g}", fontsize=8)
        _draw_projections(axes[2], row)
        if row.probability is not None and row.best is not None and row.whole_best is not None:
            whole = row.whole_probability or 0.0
            _draw_map(figure, axes[3], row.probability, whole, (low, high, high, low), PercentFormatter(1.0))
            axes[3].set_xlabel(f"without occluder {whole:.1%}", fontsize=8)
            _draw_classes(axes[4], row, colours, (low, high, high, low))
            axes[4].set_xlabel(f"without occluder {row.names[row.whole_best]}", fontsize=8, parse_math=False)
        else:
            for one in axes[3:]:
                one.text(0.5, 0.5, "These weights have\nno classifier.", ha="center", va="center", fontsize=9)
        for one in (axes[1], *(axes[3:] if row.best is not None else ())):  # as large as the photo
            one.set_xlim(0, row.view.shape[1])
            one.set_ylim(row.view.shape[0], 0)
            one.set_facecolor("0.93")
        for one in axes:
            one.set_xticks([])
            one.set_yticks([])
    beyond = rows[0].view.shape[0] - starts[-1] - occluder.size
    uncovered = f"; the last {beyond} pixels down and to the right are never covered" if beyond else ""
    about = f"a place in a map is the occluder's centre; lines at scales: without occluder; {about}{uncovered}"
    write_at(figure, _LEFT, height - 0.12, about, fontsize=7, color="0.35")
    return figure


def _colours(rows: Sequence[Occluded]) -> dict[int, int]:
    """Of each class that is anywhere most probable, the number of its colour, which is the same in all rows."""
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update([] if row.best is None else row.best.ravel().tolist())
    return {number: min(rank, _NAMED) for rank, (number, _) in enumerate(counts.most_common())}


def _draw_map(figure: Figure, axes: Axes, values: np.ndarray, whole: float, extent: Extent, numbers: Formatter) -> None:
    """From 0 up; a line at the scale is drawn at the value without an occluder."""
    drawn = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=max(whole, float(values.max())) or 1.0, extent=extent)
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0.0, 0.04, 1.0)), format=numbers)
    bar.ax.axhline(whole, color="red", linewidth=1.2)
    bar.ax.tick_params(labelsize=7)


def _draw_classes(axes: Axes, row: Occluded, colours: dict[int, int], extent: Extent) -> None:
    assert row.best is not None
    ranks = np.vectorize(colours.__getitem__)(row.best)
    norm = BoundaryNorm(range(len(_COLOURS) + 1), len(_COLOURS))
    axes.imshow(ranks, cmap=ListedColormap(_COLOURS), norm=norm, extent=extent)
    named = [number for number in row.frequent if colours[number] < _NAMED]
    handles = [Patch(color=_COLOURS[colours[number]], label=row.names[number]) for number in named]
    if len(named) < len(row.frequent):
        handles.append(Patch(color=_COLOURS[_NAMED], label=f"{len(row.frequent) - len(named)} others"))
    legend = axes.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_projections(axes: Axes, row: Occluded) -> None:
    """Two by two, each on its own grey scale, cut off where the photo ends; this photo's first, framed."""
    axes.set_xlim(0, 2)
    axes.set_ylim(2, 0)
    for number, projection in enumerate([row.projection, *(projection for _, projection in row.others)]):
        left, top = number % 2, number // 2
        height, width = (0.48 * length / max(projection.shape[1:]) for length in projection.shape[1:])
        extent = (left + 0.5 - width, left + 0.5 + width, top + 0.5 + height, top + 0.5 - height)
        axes.imshow(to_pixels(projection, display_scale(projection)), extent=extent)
    axes.plot([0.01, 0.99, 0.99, 0.01, 0.01], [0.01, 0.01, 0.99, 0.99, 0.01], color="black", linewidth=2)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)


def _short(path: str) -> str:
    """The end of a path, as far as there is room for it."""
    name = printable(path)
    return name if len(name) <= 40 else f"…{name[-39:]}"
