"""Files and folders that are whole or absent, and locks that end with the process that holds them."""

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
def atomic_path(file: Path, *suffixes: str) -> Iterator[Path]:
    """A path beside `file` to write to; renamed to `file` at the end, removed on an error.

    Raises `UsageError` if `file` does not end in one of `suffixes`, `DeconvnetError` if it cannot be written.
    """
    if suffixes and file.suffix.lower() not in suffixes:
        raise UsageError(f"{file} should end in {' or '.join(suffixes)}.")
    with _replacing(file, file.with_name(f".{file.stem}.{os.getpid()}.partial{file.suffix.lower()}")) as beside:
        yield beside


def write_via_buffer(file: Path, encode: Callable[[BytesIO], None]) -> None:
    """Write what `encode` writes to the buffer that it is given. Raises `OSError` with the system's own reason.

    Pillow's and numpy's own errors while they write to a file hide that the disk is full.
    """
    encoded = BytesIO()
    encode(encoded)
    file.write_bytes(encoded.getbuffer())


def atomic_write(file: Path, content: bytes) -> None:
    """Put `content` in place of what `file` held, on the disk before the old content goes. Raises as `atomic_path` does.

    Only one process may write to `file`: what one that was killed has left beside it is written over by the next.
    """
    with _replacing(file, file.with_name(f".{file.stem}.partial{file.suffix}")) as beside, beside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


@contextmanager
def _replacing(file: Path, beside: Path) -> Iterator[Path]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(file)
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # whatever is wrong with the place has been said
            beside.unlink(missing_ok=True)


@contextmanager
def locked(file: Path, refusal: str) -> Iterator[None]:
    """Hold the lock `file`, which ends with this process however it ends; `refusal` is said where another holds it."""
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
    """Raise `UsageError` if there is something at `out` (resolved) that a result would overwrite or cannot replace."""
    if out == Path.cwd() or out.is_mount():
        raise UsageError(f"{out} is {'a mount point' if out.is_mount() else 'the current folder'}: pass a folder in it.")
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out} exists already: choose another --out, or remove it first.")


@dataclass(frozen=True)
class WorkFolder:
    """The folder in which a result is made, so that it is whole or absent and an interrupted run can resume.

    Most results are made in a hidden folder next to `out` (`.NAME.partial`), part of which is renamed to `out` at the end.
    With `in_place` the work lies in `out` itself, for runs whose logs and pages are read while they grow.
    """

    out: Path
    """Where the result goes; resolved."""
    noun: str
    """What the result is called in errors: "atlas", "training run"."""
    record: str = "work.json"
    """Name of the JSON file that says what is being made."""
    in_place: bool = False
    activity: str = "making"
    """What another process is doing when it holds the lock: "making", "packing into"."""

    @property
    def path(self) -> Path:
        """Where the work lies."""
        return self.out if self.in_place else self.out.with_name(f".{self.out.name}.partial")

    @contextmanager
    def open(self, has_work: Callable[[], bool], check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the folder, locked against other processes.

        `check` begins the work, or raises if the folder holds other work (see `begin`). If the block fails, work that can be
        resumed (`has_work`) stays, and the error gets a note that says so unless it has one; anything else is removed.
        After success a hidden folder is removed.

        Raises what `refuse_foreign` raises, and `DeconvnetError` if another process holds the folder or it cannot be
        written.
        """
        self.refuse_foreign()
        is_new = not self.path.exists()
        lock = self.path / (".lock" if self.in_place else "lock")
        with locked(lock, f"Another process is {self.activity} {self.out}: wait for it, or choose another --out."):
            try:
                self.refuse_foreign()  # the process that held the lock may just have finished
                check()
                yield
            except BaseException as error:
                if not has_work():
                    if is_new or not self.in_place:
                        shutil.rmtree(self.path, ignore_errors=True)
                elif not isinstance(error, OtherWork) and not getattr(error, "__notes__", None):
                    begins_anew = "" if self.in_place else ", or begins anew if you remove that folder"
                    error.add_note(
                        f"What is done so far is kept in {self.path}: the same command goes on with it{begins_anew}."
                    )
                raise
            if not self.in_place:
                shutil.rmtree(self.path, ignore_errors=True)

    def refuse_foreign(self) -> None:
        """Raise `UsageError` if `out` exists or, in place, if it is anything but work of this kind."""
        if not self.in_place:
            refuse_existing(self.out)
            return
        # Hidden files are those of a process that is just starting, or was killed while it did.
        is_new = not self.out.exists() or (self.out.is_dir() and all(name.startswith(".") for name in os.listdir(self.out)))
        if not is_new and not (self.out / self.record).exists():
            raise UsageError(f"{self.out} exists already and is no {self.noun}: choose another --out.")

    def begin(self, record: Mapping[str, Any], difference: Callable[[dict[str, Any]], str], has_work: bool = True) -> None:
        """Write the record of new work, in plain values, unless the folder holds the record of the same work.

        `difference` says in words how an earlier record differs, "" if it does not. Other work is refused with `OtherWork`
        or, if there is nothing worth keeping (`has_work`), replaced.
        """
        try:
            if self.is_begun(difference):
                return
        except OtherWork:
            if has_work:
                raise
        write_json(self.path / self.record, record)

    def is_begun(self, difference: Callable[[dict[str, Any]], str]) -> bool:
        """Whether the folder holds a record. Raises `OtherWork` if it is of other work (see `begin`) or damaged."""
        file = self.path / self.record
        if not file.exists():
            return False
        try:
            problem = difference(read_json_object(file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            problem = f"a damaged {self.record}"
        if problem:
            noun = f"a {self.noun}" if self.in_place else f"an unfinished {self.noun}"
            remedy = (
                "go on with the command that began it, or choose another --out."
                if self.in_place
                else "finish it with the command that began it, or remove that folder."
            )
            raise OtherWork(f"{self.path} holds {noun} with {problem}: {remedy}")
        return True

    def publish(self, folder: Path) -> None:
        """Rename `folder`, in which the result is complete, to `out`. Raises `OSError`."""
        if self.out.exists():
            self.out.rmdir()  # empty, or it would have been refused
        folder.rename(self.out)


class OtherWork(DeconvnetError):
    """A work folder holds the beginning of another result."""


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
    """The name of the first entry of `key` whose value in `record` is another; "" if there is none."""
    plain = json.loads(json.dumps(key))
    return next((name for name, value in plain.items() if record.get(name) != value), "")
