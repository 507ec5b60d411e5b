"""Save results: figures and JSON in a folder that is complete or absent; and figures laid out in inches."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvnet.errors import DeconvnetError
from deconvnet.mining import Hit
from deconvnet.storage import WorkFolder, buffered


class Result(Protocol):
    """The result of an experiment, which draws its own figures."""

    def figures(self) -> dict[str, Figure]:
        """The figures, by the name of their file without `.png`."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the figures."""
        ...


@contextmanager
def open_result_folder(out: Path) -> Iterator[WorkFolder]:
    """Hold a hidden folder next to `out` for a result, until `save` puts the result at `out`.

    What is kept in it as `*.safetensors` survives errors and kills, so that the same call resumes. Raises `UsageError` if
    `out` exists, `DeconvnetError` if another process is writing it.
    """
    work = WorkFolder(Path(os.path.realpath(out)), "result")
    with work.open(has_work=lambda: any(work.path.glob("*.safetensors"))):
        yield work


def save(result: Result, work: WorkFolder, name: str) -> None:
    """Write `NAME.json` and a `.png` for each figure to the new folder `work.out`. Raises `DeconvnetError` if it cannot."""
    folder = work.path / "result"
    try:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result.as_json(), indent=1), encoding="utf-8")
        for figure_name, figure in result.figures().items():
            with buffered(folder / f"{figure_name}.png") as buffer:
                figure.savefig(buffer, format="png")
        work.publish(folder)
    except OSError as error:
        raise DeconvnetError(f"{work.out} cannot be written: {error.strerror or error}.") from error


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """A hit as plain values, without its layer, unit and rank, which the surrounding JSON states."""
    return {"value": hit.value, "path": hit.path, "row": hit.row, "column": hit.column, "box": list(hit.box)}


def add_axes_inches(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes whose upper left corner is (left, top); all in inches from the figure's upper left corner."""
    figure_width, figure_height = figure.get_size_inches()
    corner = left / figure_width, 1 - (top + height) / figure_height
    return figure.add_axes((*corner, width / figure_width, height / figure_height), **options)


def add_text_inches(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    """Add text whose lower left corner is (left, bottom), in inches from the figure's upper left corner; no mathematics."""
    figure_width, figure_height = figure.get_size_inches()
    figure.text(left / figure_width, 1 - bottom / figure_height, text, parse_math=False, **style)
