"""The logs of a training run: two CSV files, in which nothing depends on the clock, and TensorBoard's."""

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
from deconvnet.progress import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EPOCHS, STEPS, BOARD = "log.csv", "steps.csv", "tensorboard"

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    EPOCHS: ("epoch", "learning_rate", "train_loss", "train_error", "val_error_top1", "val_error_top5"),
    STEPS: ("step", "learning_rate", "loss"),
}

#: TensorBoard is shown every so many steps: it is for looking at, and steps.csv has all of them.
_SHOWN = 10


class Logs:
    """Logs that are open for writing; those of processes other than the first write nothing."""

    def __init__(self, files: Mapping[str, BufferedWriter], board: "SummaryWriter | None") -> None:
        self._files, self._board = files, board

    def step(self, step: int, rate: float, loss: float, error: float, photos_per_second: float, waiting: float) -> None:
        """A step (from 0) was made: its learning rate and loss, the error in its epoch so far, and how time is spent."""
        self._row(STEPS, step, rate, loss)
        if step % _SHOWN == 0:
            speed = {"speed/photos_per_second": photos_per_second, "speed/waiting": waiting}
            self._show(step, {"loss": loss, "learning_rate": rate, "error/train": error, **speed})

    def epoch(
        self, epoch: int, steps: int, rate: float, loss: float, error: float, top1: float, top5: float, rms: float
    ) -> None:
        """An epoch (from 1) of `steps` steps is over: its last learning rate, the means of loss and error, the validation
        errors, and the largest RMS of a filter of the first layer.
        """
        self._row(EPOCHS, epoch, rate, loss, error, top1, top5)
        self._show(epoch * steps - 1, {"error/val_top1": top1, "error/val_top5": top5, "largest_rms/first_layer": rms})

    def sizes(self) -> dict[str, int]:
        """Bytes of each CSV file, which are on the disk when this returns."""
        with _sentence("The logs"):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def _row(self, name: str, *values: object) -> None:
        if name in self._files:
            with _sentence(name):
                self._files[name].write(_line(values))

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            with _sentence("TensorBoard's log"):
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)


@contextmanager
def open_logs(folder: Path, sizes: Mapping[str, int], step: int, processes: Processes, show: bool) -> Iterator[Logs]:
    """Open the logs of a run behind the given numbers of bytes, and before the given step: what an earlier run wrote
    after its last checkpoint goes. Raises `DeconvnetError` where they cannot be written.
    """
    if not processes.first:
        yield Logs({}, None)
        return
    files: dict[str, BufferedWriter] = {}
    try:
        with _sentence("The logs"):
            for name, columns in _COLUMNS.items():
                file = files[name] = (folder / name).open("ab")
                file.truncate(min(sizes.get(name, 0), file.tell()))
                file.seek(0, os.SEEK_END)
                if file.tell() == 0:
                    file.write(_line(columns))
            board = _board(folder / BOARD, step, show)
        try:
            yield Logs(files, board)
        finally:
            if board is not None:
                with suppress(OSError):
                    board.close()
    finally:
        for file in files.values():
            with suppress(OSError):  # a disk that is full has been spoken of, and all that counts has been flushed
                file.close()


def _board(folder: Path, step: int, show: bool) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes a second, and has to be installed
    except ImportError:
        say("tensorboard is not installed, so there are the CSV logs only.", show)
        return None
    return SummaryWriter(folder, purge_step=step)


def _line(values: tuple[object, ...]) -> bytes:
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\n").writerow(values)
    return row.getvalue().encode()


@contextmanager
def _sentence(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeconvnetError(f"{what} cannot be written: {error.strerror or error}.") from error
