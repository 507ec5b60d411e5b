"""What packing writes: pixels, tables, and how far it is."""

import csv
import errno
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from deconvnet.data.classes import named_classes
from deconvnet.data.image_set import ImageSet
from deconvnet.data.packed import (
    FORMAT,
    IMAGES,
    MANIFEST,
    MEAN,
    digest_of,
)
from deconvnet.data.transforms import SQUARE
from deconvnet.errors import DeconvnetError
from deconvnet.storage import atomic_write

_BYTES = SQUARE * SQUARE * 3


def same_work(work: Path, sets: Mapping[str, ImageSet]) -> None:
    """Begin in the folder `work`, or see that the same was begun there. Raises `DeconvnetError` if other work was done."""
    record = work / "work.json"
    content = json.dumps({"format": FORMAT, "photos": {name: photos.digest for name, photos in sets.items()}}).encode()
    same = record.exists() and record.read_bytes() == content
    if same and work_done(work):
        return
    if work_done(work):
        raise DeconvnetError(
            f"{work} holds an unfinished packed set of other photos, or of these before they were changed: finish it with "
            "the command that began it, or remove that folder."
        )
    for left in work.glob("done*.npz"):
        left.unlink()
    shutil.rmtree(work / "packed", ignore_errors=True)
    atomic_write(record, content)


def work_done(work: Path) -> bool:
    """Whether there is anything in the folder `work` to go on with. (When all is done its pixels go first.)"""
    return (work / "packed").is_dir() and any(work.glob("done*.npz"))


class PixelFile:
    """The .npy file for the pixels of `photos` photos, (photos, 256, 256, 3) uint8.

    It is written, not mapped: a full disk then raises an error, where writing to mapped memory would end the process.
    """

    def __init__(self, path: Path, photos: int) -> None:
        header = io.BytesIO()
        shape = (photos, SQUARE, SQUARE, 3)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.path, self._header = path, header.getvalue()
        self._size = len(self._header) + photos * _BYTES

    def reserve(self) -> None:
        """Take the room on the disk. Raises `DeconvnetError` if there is not enough."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self:
            missing = self._size - os.fstat(self._descriptor).st_blocks * 512
            free = shutil.disk_usage(self.path.parent).free
            if missing > free:
                raise DeconvnetError(
                    f"The disk of {self.path.parent} has {free / 1e9:.1f} GB left, but the pixels take "
                    f"{missing / 1e9:.1f} GB more: make room, or choose another --out."
                )
            try:
                os.posix_fallocate(self._descriptor, 0, self._size)
            except (AttributeError, OSError) as error:
                # Neither every system nor every file system can; there a full disk is met later.
                if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                os.truncate(self._descriptor, self._size)
            self._write(self._header, 0)

    def __enter__(self) -> Self:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def write(self, row: int, square: np.ndarray | None) -> None:
        """Put the pixels of a photo, or zeros for one that could not be read, into row number `row`."""
        self._write(bytes(_BYTES) if square is None else square.tobytes(), len(self._header) + row * _BYTES)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def _write(self, content: bytes, place: int) -> None:
        written = 0
        while written < len(content):  # one call may write less
            written += os.pwrite(self._descriptor, content[written:], place + written)


@dataclass
class Done:
    """How far the packing of one set is: a position and what was found up to there."""

    sums: np.ndarray
    """(256, 256, 3) uint64, over all photos read."""
    checksums: np.ndarray
    """(n,) uint32, CRC-32 of each photo's pixels."""
    skipped: dict[int, str]
    """Indices of photos that could not be read, with the reason."""
    count: int = 0

    def add(self, result: np.ndarray | str) -> None:
        """Count the next photo: its square, or the reason why it cannot be read."""
        if isinstance(result, str):
            self.skipped[self.count] = result
        else:
            self.checksums[self.count] = zlib.crc32(result.tobytes())
            self.sums += result
        self.count += 1

    def save(self, file: Path) -> None:
        buffer = io.BytesIO()
        about = json.dumps({"count": self.count, "skipped": self.skipped})
        np.savez(buffer, sums=self.sums, checksums=self.checksums, about=np.array(about))
        atomic_write(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path, photos: int) -> Self:
        """Where an earlier run stopped, or the beginning if there was none or its record is damaged."""
        try:
            with np.load(file, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                skipped = {int(index): str(reason) for index, reason in about["skipped"].items()}
                return cls(saved["sums"], saved["checksums"], skipped, int(about["count"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return cls(np.zeros((SQUARE, SQUARE, 3), np.uint64), np.zeros(photos, np.uint32), {})


def write_tables(folder: Path, photos: ImageSet, done: Done) -> None:
    """Write all but the pixels; the manifest, which makes a packed set of the folder, last.

    Raises `DeconvnetError` if no photo could be read.
    """
    good = [index for index in range(len(photos)) if index not in done.skipped]
    if not good:
        raise DeconvnetError(
            f"None of the {len(photos)} photos in {photos.root} can be read: {photos.paths[0]} {done.skipped[0]}."
        )
    paths, checksums = [photos.paths[index] for index in good], [f"{done.checksums[index]:08x}" for index in good]
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "row", "crc32"])
    writer.writerows(zip(paths, good, checksums, strict=True))
    atomic_write(folder / IMAGES, table.getvalue().encode(errors="surrogateescape"))
    mean = io.BytesIO()
    np.save(mean, (done.sums / len(good)).astype(np.float32))
    atomic_write(folder / MEAN, mean.getvalue())
    manifest = {
        "format": FORMAT,
        "photos": len(good),
        "size": SQUARE,
        "digest": digest_of(paths, checksums),
        "classes": named_classes(sorted({photos.labels[index] for index in good} - {""})),
        "ignored": photos.ignored,
        "skipped": [{"path": photos.paths[index], "reason": reason} for index, reason in sorted(done.skipped.items())],
    }
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
