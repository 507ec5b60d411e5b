"""Files that are there whole or not at all, and locks that die with the process that holds them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

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
