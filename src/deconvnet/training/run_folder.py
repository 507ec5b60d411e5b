"""The folder of a training run: its record, logs, checkpoints, snapshots and final weights."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.distributed import Processes
from deconvnet.environment import software_versions
from deconvnet.errors import DeconvnetError
from deconvnet.storage import OtherWork, WorkFolder, atomic_write, first_difference
from deconvnet.training.logs import EPOCH_LOG

FORMAT = 1

#: Epochs after which a snapshot of the weights is kept: those of Fig. 4.
SNAPSHOT_EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)


@dataclass(frozen=True)
class RunFolder:
    """The files of a training run."""

    folder: Path

    @property
    def weights(self) -> Path:
        """The final weights, which exist once the run is finished."""
        return self.folder / "weights.safetensors"

    def snapshot(self, epoch: int) -> Path:
        """The weights after an epoch, in float16."""
        return self.folder / "snapshots" / f"epoch-{epoch:03d}.safetensors"

    @property
    def mean(self) -> Path:
        """The training set's mean image."""
        return self.folder / "mean.npy"

    def save_mean(self, mean: np.ndarray) -> None:
        """Save the training set's mean image, (256, 256, 3) float32."""
        buffer = io.BytesIO()
        np.save(buffer, mean)
        atomic_write(self.mean, buffer.getvalue())

    def load_mean(self, processes: Processes) -> np.ndarray:
        """The saved mean image, (256, 256, 3) float32; all processes must call it. Raises `DeconvnetError` if damaged."""
        content = self.mean.read_bytes() if processes.is_first else b""
        content = processes.broadcast(content) if processes.world_size > 1 else content
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError):
            raise DeconvnetError(f"{self.mean} is damaged: remove it, and the same command makes it again.") from None


def read_log(run: Path) -> list[dict[str, float]]:
    """The rows of a run's `log.csv`, one for each finished epoch. Raises `DeconvnetError` if it cannot be read."""
    try:
        with (run / EPOCH_LOG).open(encoding="utf-8", newline="") as table:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table)]
    except (OSError, ValueError, TypeError) as error:
        raise DeconvnetError(f"{run / EPOCH_LOG} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


@contextmanager
def open_run(folder: Path, key: Mapping[str, Any], processes: Processes) -> Iterator[RunFolder]:
    """Begin a run in a new or empty folder, or resume the one in it. `key` is everything that determines its result.

    An error that leaves resumable work gets a note that says so. Raises `UsageError` if the folder holds anything but a
    run, `DeconvnetError` if another process uses it or if it holds a run with another key that has made a step already.
    """
    if not processes.is_first:
        yield RunFolder(folder)
        return
    work = WorkFolder(folder, "training run", "run.json", in_place=True, activity="training in")

    def has_work() -> bool:
        return folder.exists() and bool(set(os.listdir(folder)) - _FILES_BEFORE_FIRST_STEP)

    difference = partial(_difference, key)
    with work.open(has_work):
        try:
            is_same_run = work.has_record(difference)
        except OtherWork:
            is_same_run = False
        if not is_same_run and not has_work():
            RunFolder(folder).mean.unlink(missing_ok=True)  # it may be of another image set
        work.begin({"format": FORMAT, **key, "made_with": software_versions()}, difference, has_work())
        for leftover in [*folder.glob(".*.partial*"), *folder.glob("snapshots/.*.partial*")]:  # of a process that was killed
            leftover.unlink(missing_ok=True)
        yield RunFolder(folder)


#: The files of a run that has not made a step yet, and may be replaced by another run.
_FILES_BEFORE_FIRST_STEP = {".lock", ".run.partial.json", "run.json", ".mean.partial.npy", "mean.npy"}


def _difference(key: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """How a run's record differs from `key`, in a few words; "" if it does not."""
    if record["format"] != FORMAT:
        return "another format"
    name = first_difference(record, key)
    if not name:
        return ""
    recorded, requested = record.get(name), json.loads(json.dumps(key[name]))
    if name == "recipe" and isinstance(recorded, dict):
        entry = first_difference(recorded, requested) or first_difference(requested, recorded)
        return f"another recipe ({entry} = {recorded.get(entry)!r}, not {requested.get(entry)!r})"
    return f"another {name} ({recorded!r}, not {requested!r})" if isinstance(requested, str | int) else f"another {name}"
