"""The logs of a training run: two CSV files, which do not depend on the clock, and TensorBoard's."""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING

from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError
from deconvnet.extras import missing_extra
from deconvnet.progress import print_status

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EPOCH_LOG, STEP_LOG, TENSORBOARD_FOLDER = "log.csv", "steps.csv", "tensorboard"

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    EPOCH_LOG: ("epoch", "learning_rate", "train_loss", "train_error", "val_error_top1", "val_error_top5"),
    STEP_LOG: ("step", "learning_rate", "loss"),
}

#: TensorBoard gets every tenth step, enough for its plots; steps.csv has all of them.
_TENSORBOARD_INTERVAL = 10


class Logs:
    """The logs of a run, open for writing. In processes other than the first, methods write nothing."""

    def __init__(self, files: Mapping[str, BufferedWriter], tensorboard: "SummaryWriter | None") -> None:
        self._files, self._tensorboard = files, tensorboard

    def log_step(
        self, step: int, rate: float, loss: float, error: float, images_per_second: float, wait_fraction: float
    ) -> None:
        """Log a step (from 0): its learning rate and loss, the epoch's training error so far, and the throughput."""
        self._write_row(STEP_LOG, step, rate, loss)
        if step % _TENSORBOARD_INTERVAL == 0:
            speed = {"speed/photos_per_second": images_per_second, "speed/waiting": wait_fraction}
            self._write_scalars(step, {"loss": loss, "learning_rate": rate, "error/train": error, **speed})

    def log_epoch(
        self, epoch: int, steps: int, rate: float, loss: float, error: float, top1: float, top5: float, rms: float
    ) -> None:
        """Log an epoch (from 1) of `steps` steps: its last learning rate, the means of loss and training error, the
        validation errors, and the largest RMS of a first-layer filter.
        """
        self._write_row(EPOCH_LOG, epoch, rate, loss, error, top1, top5)
        last_step = epoch * steps - 1
        self._write_scalars(last_step, {"error/val_top1": top1, "error/val_top5": top5, "largest_rms/first_layer": rms})

    def flush(self) -> dict[str, int]:
        """Write both CSV files through to the disk; returns their sizes in bytes."""
        with _write_errors("The logs"):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def _write_row(self, name: str, *values: object) -> None:
        if name in self._files:
            with _write_errors(name):
                self._files[name].write(_csv_line(values))

    def _write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            with _write_errors("TensorBoard's log"):
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, step)


@contextmanager
def open_logs(folder: Path, sizes: Mapping[str, int], step: int, processes: Processes, show: bool) -> Iterator[Logs]:
    """Open the logs of a run, truncated to `sizes` bytes and to the steps before `step`.

    So what an earlier run wrote after its last checkpoint is dropped. Raises `DeconvnetError` where they cannot be written.
    """
    if not processes.is_first:
        yield Logs({}, None)
        return
    files: dict[str, BufferedWriter] = {}
    try:
        with _write_errors("The logs"):
            for name, columns in _COLUMNS.items():
                file = files[name] = (folder / name).open("ab")
                file.truncate(min(sizes.get(name, 0), file.tell()))
                file.seek(0, os.SEEK_END)
                if file.tell() == 0:
                    file.write(_csv_line(columns))
            tensorboard = _open_tensorboard(folder / TENSORBOARD_FOLDER, step, show)
        try:
            yield Logs(files, tensorboard)
        finally:
            if tensorboard is not None:
                with suppress(OSError):
                    tensorboard.close()
    finally:
        for file in files.values():
            with suppress(OSError):  # a full disk has been reported, and everything a checkpoint counts on has been flushed
                file.close()


def _open_tensorboard(folder: Path, step: int, show: bool) -> "SummaryWriter | None":
    if sentence := missing_extra("train"):
        print_status(f"There are the CSV logs only: {sentence}.", show)
        return None
    from torch.utils.tensorboard import SummaryWriter  # takes a second

    return SummaryWriter(folder, purge_step=step)


def _csv_line(values: tuple[object, ...]) -> bytes:
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\n").writerow(values)
    return row.getvalue().encode()


@contextmanager
def _write_errors(name: str) -> Iterator[None]:
    """Raise an `OSError` as a `DeconvnetError` that says that `name` cannot be written."""
    try:
        yield
    except OSError as error:
        raise DeconvnetError(f"{name} cannot be written: {error.strerror or error}.") from error
