"""Results on disk: pictures and JSON in a folder that is there whole or not at all."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvnet.errors import DeconvnetError
from deconvnet.storage import WorkFolder, write_via_buffer


class Writable(Protocol):
    """A result that draws itself and says itself in plain values."""

    def figures(self) -> dict[str, Figure]:
        """Its pictures by name."""
        ...

    def as_json(self) -> dict[str, Any]: ...


Result = TypeVar("Result", bound=Writable)


def write_result(out: Path, name: str, make: Callable[[Path], Result]) -> Result:
    """Write what `make` returns to the new folder `out`: `NAME.json`, and a `.png` for each of its figures.

    `make` is given a hidden folder beside `out` for what a killed call should find again (`*.safetensors`); the same call
    goes on with it.

    Raises `UsageError` if `out` exists, `DeconvnetError` if it cannot be written or another process is writing it, and what
    `make` raises.
    """
    work = WorkFolder(Path(os.path.realpath(out)), "result")
    with work.open(has_work=lambda: any(work.path.glob("*.safetensors"))):
        result = make(work.path)
        try:
            _save(result, work.path / "result", name)
            work.publish(work.path / "result")
        except OSError as error:
            raise DeconvnetError(f"{work.out} cannot be written: {error.strerror or error}.") from error
    return result


def _save(result: Writable, folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result.as_json(), indent=1), encoding="utf-8")
    for figure_name, figure in result.figures().items():
        write_via_buffer(folder / f"{figure_name}.png", partial(figure.savefig, format="png"))


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Axes whose upper left corner is there."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down), **options)


def write_at(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    """Words whose lower left corner is there."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - bottom / down, text, parse_math=False, **style)
