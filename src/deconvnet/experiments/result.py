"""Results on disk: pictures and JSON in a folder that is there whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvnet.errors import DeconvnetError
from deconvnet.storage import locked, refuse_existing, write_via_buffer


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
    out = Path(os.path.realpath(out))
    refuse_existing(out)
    work = out.with_name(f".{out.name}.partial")
    with locked(work / "lock", f"Another process is making {out}: wait for it, or choose another --out."):
        try:
            result = make(work)
            _save(result, work / "result", name)
            if out.exists():
                out.rmdir()  # empty, or it would have been refused
            (work / "result").rename(out)
        except BaseException as error:
            if any(work.glob("*.safetensors")):
                error.add_note(
                    f"What is done so far is kept in {work}: the same command goes on with it, or begins anew if you remove "
                    "that folder."
                )
            else:
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return result


def _save(result: Writable, folder: Path, name: str) -> None:
    try:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result.as_json(), indent=1), encoding="utf-8")
        for picture, figure in result.figures().items():
            write_via_buffer(folder / f"{picture}.png", partial(figure.savefig, format="png"))
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be written: {error.strerror or error}.") from error


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Axes whose upper left corner is there."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down), **options)


def write_at(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    """Words whose lower left corner is there."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - bottom / down, text, parse_math=False, **style)
