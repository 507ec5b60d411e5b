"""The folder of a training run: what was asked for, logs, checkpoints, snapshots and the weights that come out."""

import csv
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

import deconvnet
from deconvnet.errors import DeconvnetError
from deconvnet.files import locked, write_whole
from deconvnet.processes import Processes

FORMAT = 1

#: Epochs after which a snapshot of the weights is kept: those of Fig. 4.
SNAPSHOTS = (1, 2, 5, 10, 20, 30, 40, 64)

#: Logs, with their columns. Nothing in them depends on the clock.
_LOGS: Mapping[str, tuple[str, ...]] = {
    "log.csv": ("epoch", "learning_rate", "train_loss", "train_error", "val_error_top1", "val_error_top5"),
    "steps.csv": ("step", "learning_rate", "loss"),
}


@dataclass
class Run:
    """A run's folder, opened by the first of the processes that work on it."""

    folder: Path
    _logs: dict[str, BinaryIO] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        """What comes out; it is there once the run is finished."""
        return self.folder / "weights.safetensors"

    def snapshot(self, epoch: int) -> Path:
        return self.folder / "snapshots" / f"epoch-{epoch:03d}.safetensors"

    def log(self, name: str, *values: object) -> None:
        """Add a row to a log."""
        self._write(name, values)

    def sizes(self) -> dict[str, int]:
        """Bytes of each log, which are on the disk when this returns."""
        for file in self._logs.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._logs.items()}

    def open_logs(self, sizes: Mapping[str, int]) -> None:
        """Open the logs behind the given numbers of bytes; what an earlier run wrote after its last checkpoint goes."""
        for name, columns in _LOGS.items():
            file = (self.folder / name).open("ab")
            file.truncate(sizes.get(name, 0))
            file.seek(0, os.SEEK_END)
            self._logs[name] = file
            if file.tell() == 0:
                self._write(name, columns)

    def close_logs(self) -> None:
        for file in self._logs.values():
            file.close()
        self._logs.clear()

    def _write(self, name: str, values: tuple[object, ...]) -> None:
        row = io.StringIO(newline="")
        csv.writer(row, lineterminator="\n").writerow(values)
        self._logs[name].write(row.getvalue().encode())


@contextmanager
def open_run(folder: Path, key: Mapping[str, Any], processes: Processes) -> Iterator[Run]:
    """Begin a run in a new or empty folder, or go on with the one in it. `key` is all that decides what it computes.

    Raises `DeconvnetError` if the folder holds a run with another key or anything else, or is in use.
    """
    if not processes.first:
        yield Run(folder)
        return
    busy = f"Another process is training in {folder}: wait for it, or choose another --out."
    try:
        strange = folder.exists() and not (folder / "run.json").exists() and _contents(folder)
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be opened: {error.strerror or error}.") from None
    if strange:
        raise DeconvnetError(f"{folder} exists already and is no training run: choose another --out.")
    with locked(folder / ".lock", busy):
        _check(folder / "run.json", key)
        run = Run(folder)
        try:
            yield run
        finally:
            run.close_logs()


def _contents(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name != ".lock"]


def _check(file: Path, key: Mapping[str, Any]) -> None:
    if not file.exists():
        made_with = {"deconvnet": deconvnet.__version__, "torch": torch.__version__, "python": platform.python_version()}
        content = {"format": FORMAT, **key, "made_with": made_with}
        write_whole(file, json.dumps(content, indent=1, ensure_ascii=False).encode())
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found = found if found["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if not found:
        raise DeconvnetError(f"{file} is damaged or of another version: choose another --out.")
    for name, value in json.loads(json.dumps(key)).items():
        if found.get(name) != value:
            raise DeconvnetError(
                f"{file.parent} holds a run with another {name}: go on with the command that began it, or choose another "
                "--out."
            )
