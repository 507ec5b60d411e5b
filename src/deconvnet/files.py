"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deconvnet.errors import DeconvnetError, UsageError


@contextmanager
def replacing(file: Path, *suffixes: str) -> Iterator[Path]:
    """A path beside `file` to write to; renamed to `file` at the end, removed on an error.

    Raises `UsageError` if `file` does not end in one of `suffixes`, `DeconvnetError` if it cannot be written.
    """
    if suffixes and file.suffix.lower() not in suffixes:
        raise UsageError(f"{file} should end in {' or '.join(suffixes)}.")
    beside = file.with_name(f".{file.stem}.{os.getpid()}.partial{file.suffix.lower()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(file)
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        beside.unlink(missing_ok=True)
