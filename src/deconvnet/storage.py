"""Files and folders that are complete or absent, locks that end with their process, work folders that can be resumed."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deconvnet.errors import DeconvnetError, UsageError


@contextmanager
def atomic_path(file: Path, *suffixes: str, only_writer: bool = False) -> Iterator[Path]:
    """A temporary path next to `file` to write to: renamed to `file` after the block, removed if the block fails.

    With `only_writer`, which promises that no other process writes to `file`, its name is always the same, so that the next
    call overwrites what a killed process left. Raises `UsageError` if `file` does not end in one of `suffixes`,
    `DeconvnetError` if it cannot be written.
    """
    if suffixes and file.suffix.lower() not in suffixes:
        raise UsageError(f"{file} should end in {' or '.join(suffixes)}.")
    process = "" if only_writer else f".{os.getpid()}"
    temporary = file.with_name(f".{file.stem}{process}.partial{file.suffix.lower()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(file)
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


def atomic_write(file: Path, content: bytes) -> None:
    """Replace the content of `file`, synced to disk before the old content goes; only one process may write to it.

    Raises `DeconvnetError` if it cannot be written.
    """
    with atomic_path(file, only_writer=True) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def buffered(file: Path) -> Iterator[BytesIO]:
    """A buffer in memory, whose content is written to `file` after the block. Raises `OSError` with the system's reason.

    Writing to a file directly, Pillow and numpy raise errors that hide a full disk.
    """
    buffer = BytesIO()
    yield buffer
    file.write_bytes(buffer.getbuffer())


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, with `atomic_write`."""
    atomic_write(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_json_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises `OSError` if it cannot be read, `ValueError` if it holds anything else."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def first_difference(record: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """The name of the first entry of `key` that differs in `record`, which was read from JSON; "" if none does."""
    json_key = json.loads(json.dumps(key))
    return next((name for name, value in json_key.items() if record.get(name) != value), "")


@contextmanager
def locked(file: Path, refusal: str) -> Iterator[None]:
    """Hold the lock `file`, which ends with this process however it ends, and remove the file afterwards.

    Raises `DeconvnetError`: with the message `refusal` if another process holds the lock, or if the lock cannot be created.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise DeconvnetError(refusal) from None
    except OSError as error:
        raise DeconvnetError(f"{file.parent} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        lock.release()


def refuse_existing(out: Path) -> None:
    """Raise `UsageError` if there is anything but an empty folder at `out` (resolved), or if it cannot be replaced."""
    if out == Path.cwd() or out.is_mount():
        raise UsageError(f"{out} is {'a mount point' if out.is_mount() else 'the current folder'}: pass a folder in it.")
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out} exists already: choose another --out, or remove it first.")


@dataclass(frozen=True)
class WorkFolder:
    """The folder in which a result is made, so that the result is complete or absent and an interrupted run can resume.

    Usually a hidden folder next to `out` (`.NAME.partial`), part of which is renamed to `out` at the end (`publish`). With
    `in_place` it is `out` itself, for training runs and reports, whose logs and pages are read while they grow.
    """

    out: Path
    """Where the result goes; resolved."""
    noun: str
    """What the result is called in errors: "atlas", "training run"."""
    record: str = "work.json"
    """Name of the JSON file that identifies the work."""
    in_place: bool = False
    activity: str = "making"
    """What a process that holds the lock is doing to `out`, for the error of another: "making", "packing into"."""

    @property
    def path(self) -> Path:
        """The folder that holds the work."""
        return self.out if self.in_place else self.out.with_name(f".{self.out.name}.partial")

    @property
    def _lock(self) -> Path:
        return self.path / (".lock" if self.in_place else "lock")

    @contextmanager
    def open(self, has_work: Callable[[], bool]) -> Iterator[None]:
        """Lock the folder against other processes while the block runs, which usually calls `begin` first.

        `has_work` says whether there is anything worth resuming. If the block raises, a folder with work is kept, and the
        error gets a note that says so unless it has a note already or rules out resuming (`can_resume`). A folder without
        work is removed, in place only if this call created it. After success a hidden folder is removed.

        Raises what `refuse_foreign` raises, and `DeconvnetError` if another process holds the folder or it cannot be
        written.
        """
        self.refuse_foreign()
        existed = self.path.exists()
        with locked(self._lock, f"Another process is {self.activity} {self.out}: wait for it, or choose another --out."):
            # Another process may have put something there before this one held the lock.
            may_remove = not self.in_place or (not existed and os.listdir(self.path) == [self._lock.name])
            try:
                self.refuse_foreign()
                yield
            except BaseException as error:
                if has_work():
                    self._add_note(error)
                elif may_remove:
                    shutil.rmtree(self.path, ignore_errors=True)
                raise
            if not self.in_place:
                shutil.rmtree(self.path, ignore_errors=True)

    def _add_note(self, error: BaseException) -> None:
        if getattr(error, "can_resume", True) and not getattr(error, "__notes__", None):
            alternative = "" if self.in_place else ", or begins anew if you remove that folder"
            error.add_note(f"What is done so far is kept in {self.path}: the same command goes on with it{alternative}.")

    def refuse_foreign(self) -> None:
        """Raise `UsageError` if `out` exists or, in place, if it is anything but an empty folder or work of this kind.

        Raises `DeconvnetError` if it cannot be looked into.
        """
        if not self.in_place:
            refuse_existing(self.out)
            return
        try:
            # Hidden files are those of a process that is just starting, or was killed while it did.
            is_new = not self.out.exists() or (
                self.out.is_dir() and all(name.startswith(".") for name in os.listdir(self.out))
            )
            is_foreign = not is_new and not (self.out / self.record).exists()
        except OSError as error:
            raise DeconvnetError(f"{self.out} cannot be opened: {error.strerror or error}.") from error
        if is_foreign:
            raise UsageError(f"{self.out} exists already and is no {self.noun}: choose another --out.")

    def begin(self, record: Mapping[str, Any], difference: Callable[[dict[str, Any]], str], has_work: bool = True) -> None:
        """Write the `record` of new work, plain values, unless the folder holds the record of this work already.

        The record of other work is refused as by `has_record`; without `has_work` it is replaced.
        """
        try:
            if self.has_record(difference):
                return
        except OtherWork:
            if has_work:
                raise
        write_json(self.path / self.record, record)

    def has_record(self, difference: Callable[[dict[str, Any]], str]) -> bool:
        """Whether the folder holds the record of this work; false if it holds none.

        `difference` takes a record and returns in words how it differs from this work's, "" if it does not. Raises
        `OtherWork` if it does, or if the record is damaged.
        """
        file = self.path / self.record
        if not file.exists():
            return False
        try:
            problem = difference(read_json_object(file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            problem = f"a damaged {self.record}"
        if problem:
            if self.in_place:
                article = "an" if self.noun[0] in "aeiou" else "a"
                noun, remedy = f"{article} {self.noun}", "go on with the command that began it, or choose another --out."
            else:
                noun = f"an unfinished {self.noun}"
                remedy = "finish it with the command that began it, or remove that folder."
            raise OtherWork(f"{self.path} holds {noun} with {problem}: {remedy}")
        return True

    def publish(self, folder: Path) -> None:
        """Rename `folder`, which holds the complete result, to `out`. Raises `OSError`."""
        if self.out.exists():
            self.out.rmdir()  # empty, or it would have been refused
        folder.rename(self.out)


class OtherWork(UsageError):
    """A work folder holds other work than the one asked for."""

    can_resume = False
