"""The folder of a training run: what was asked for, logs, checkpoints, snapshots and the weights that come out."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.distributed import Processes
from deconvnet.environment import software_versions
from deconvnet.errors import DeconvnetError
from deconvnet.storage import WorkFolder, atomic_write, first_difference
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
    """Begin a run in a new or empty folder, or resume the one in it. `key` is all that decides what it computes.

    An error that leaves work behind says so in a note. Raises `UsageError` if the folder holds anything but a run,
    `DeconvnetError` if it holds a run with another key (unless that has not made a step yet) or is in use.
    """
    if not processes.first:
        yield Run(folder)
        return
    work = WorkFolder(folder, "training run", "run.json", in_place=True, activity="training in")

    def has_work() -> bool:
        return folder.exists() and bool(set(os.listdir(folder)) - _BEFORE_FIRST_STEP)

    def check() -> None:
        if not has_work():
            (folder / "mean.npy").unlink(missing_ok=True)  # of other photos, perhaps
        work.begin({"format": FORMAT, **key, "made_with": software_versions()}, partial(_difference, key), has_work())
        for stale in [*folder.glob(".*.partial*"), *folder.glob("snapshots/.*.partial*")]:  # of a process that was killed
            stale.unlink(missing_ok=True)

    with work.open(has_work, check):
        yield Run(folder)


#: What is in a run's folder before the first step: nothing that another run may not take the place of.
_BEFORE_FIRST_STEP = {".lock", ".run.partial.json", "run.json", ".mean.partial.npy", "mean.npy"}


def _difference(key: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """How a run's record differs from `key`, in as few words as tell it; "" if it does not."""
    if record["format"] != FORMAT:
        return "another format"
    name = first_difference(record, key)
    if not name:
        return ""
    theirs, ours = record.get(name), json.loads(json.dumps(key[name]))
    if name == "recipe" and isinstance(theirs, dict):
        entry = first_difference(theirs, ours) or first_difference(ours, theirs)
        return f"another recipe ({entry} = {theirs.get(entry)!r}, not {ours.get(entry)!r})"
    return f"another {name} ({theirs!r}, not {ours!r})" if isinstance(ours, str | int) else f"another {name}"
