"""The folder of a training run: what was asked for, logs, checkpoints, snapshots and the weights that come out."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.distributed import Processes
from deconvnet.environment import software_versions
from deconvnet.errors import DeconvnetError
from deconvnet.storage import atomic_write, locked
from deconvnet.training.divergence import TrainingDiverged
from deconvnet.training.logs import EPOCHS

FORMAT = 1

#: Epochs after which a snapshot of the weights is kept: those of Fig. 4.
SNAPSHOTS = (1, 2, 5, 10, 20, 30, 40, 64)


@dataclass(frozen=True)
class Run:
    """A run's folder, which the first of the processes that work on it has opened."""

    folder: Path

    @property
    def weights(self) -> Path:
        """What comes out; it is there once the run is finished."""
        return self.folder / "weights.safetensors"

    def snapshot(self, epoch: int) -> Path:
        return self.folder / "snapshots" / f"epoch-{epoch:03d}.safetensors"

    def mean(self, make: Callable[[], np.ndarray], processes: Processes) -> np.ndarray:
        """The mean image (256, 256, 3) float32 of the photos, in all processes; the first makes it once for all runs."""
        content, file = b"", self.folder / "mean.npy"
        if processes.first:
            if not file.exists():
                kept = io.BytesIO()
                np.save(kept, make())
                atomic_write(file, kept.getvalue())
            content = file.read_bytes()
        content = processes.broadcast(content) if processes.count > 1 else content
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError):
            raise DeconvnetError(f"{file} is damaged: remove it, and the same command makes it again.") from None


def read_log(run: Path) -> list[dict[str, float]]:
    """The rows of a run's `log.csv`, one for each epoch that is over. Raises `DeconvnetError` if it cannot be read."""
    try:
        with (run / EPOCHS).open(encoding="utf-8", newline="") as table:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table)]
    except (OSError, ValueError, TypeError) as error:
        raise DeconvnetError(f"{run / EPOCHS} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


@contextmanager
def open_run(folder: Path, key: Mapping[str, Any], processes: Processes) -> Iterator[Run]:
    """Begin a run in a new or empty folder, or go on with the one in it. `key` is all that decides what it computes.

    An error that leaves work behind says so in a note. Raises `DeconvnetError` if the folder holds a run with another key
    (unless that has not made a step yet) or anything else, or is in use.
    """
    if not processes.first:
        yield Run(folder)
        return
    if not (folder / "run.json").exists() and _has_more_than_a_beginning(folder):
        raise DeconvnetError(f"{folder} exists already and is no training run: choose another --out.")
    with locked(folder / ".lock", f"Another process is training in {folder}: wait for it, or choose another --out."):
        _begin_or_go_on(folder, key)
        for left in [*folder.glob(".*.partial*"), *folder.glob("snapshots/.*.partial*")]:  # by what was killed
            left.unlink(missing_ok=True)
        try:
            yield Run(folder)
        except BaseException as error:
            if not isinstance(error, TrainingDiverged) and _has_more_than_a_beginning(folder):
                error.add_note(f"What is done so far is kept in {folder}: the same command goes on with it.")
            raise


#: What is in a run's folder before the first step: nothing that another run may not take the place of.
_BEGINNING = {".lock", ".run.partial.json", "run.json", ".mean.partial.npy", "mean.npy"}


def _has_more_than_a_beginning(folder: Path) -> bool:
    try:
        return folder.exists() and bool(set(os.listdir(folder)) - _BEGINNING)
    except NotADirectoryError:
        raise DeconvnetError(f"{folder} is a file: choose another --out.") from None
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be opened: {error.strerror or error}.") from None


def _begin_or_go_on(folder: Path, key: Mapping[str, Any]) -> None:
    file = folder / "run.json"
    if file.exists():
        problem = _problem(file, key)
        if not problem:
            return
        if _has_more_than_a_beginning(folder):
            raise DeconvnetError(problem)
        (folder / "mean.npy").unlink(missing_ok=True)  # of other photos, perhaps
    content = {"format": FORMAT, **key, "made_with": software_versions()}
    atomic_write(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _problem(file: Path, key: Mapping[str, Any]) -> str:
    """Why the run that `file` describes is not the one with this key; empty if it is."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found = found if found["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if not found:
        return f"{file} is damaged or of another version: choose another --out."
    for name, value in json.loads(json.dumps(key)).items():
        if (other := found.get(name)) != value:
            return (
                f"{file.parent} holds a run with another {_difference(name, other, value)}: go on with the command that "
                "began it, or choose another --out."
            )
    return ""


def _difference(name: str, found: Any, wanted: Any) -> str:
    """What differs, in as few words as tell it."""
    if name == "recipe" and isinstance(found, dict):
        entry = next(entry for entry in {**wanted, **found} if found.get(entry) != wanted.get(entry))
        return f"recipe ({entry} = {found.get(entry)!r}, not {wanted.get(entry)!r})"
    return f"{name} ({found!r}, not {wanted!r})" if isinstance(wanted, str | int) else name
