"""What packing writes: pixels, tables, and how far it is."""

import csv
import errno
import io
import json
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deconvnet.data.decode import UnreadableImage
from deconvnet.data.image_set import ImageSet, named_classes
from deconvnet.data.loader import prefetch
from deconvnet.data.packed import (
    FORMAT,
    IMAGES,
    MANIFEST,
    MEAN,
    PIXELS,
    PackedImageSet,
    digest_of,
    open_packed,
)
from deconvnet.data.transforms import SQUARE, square
from deconvnet.errors import DeconvnetError
from deconvnet.progress import bar
from deconvnet.storage import WorkFolder, atomic_write

_BYTES = SQUARE * SQUARE * 3


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


#: Seconds between two savings of how far the work is.
SAVE_EVERY = 10.0

#: Photos decoded ahead, by each thread.
_AHEAD = 8


def pack(
    sets: Mapping[str, ImageSet], out: Path | str, *, workers: int | None = None, progress: bool = False
) -> dict[str, PackedImageSet]:
    """Write sets of photos, named "train" and "val" or just "", as packed sets into the new folder `out`.

    Each photo's shorter side is resized to 256 pixels and the central square kept (section 3). Photos that cannot be read
    are left out and listed in the manifest. Nothing is at `out` until all is done; what an interrupted call has left in
    `.NAME.partial` the next one goes on with. `workers` threads decode (default: one per core).

    Raises `UsageError` if `out` exists; `DeconvnetError` if a set has no readable photo, if photos go while they are read,
    if the disk has too little room, or if other photos were being packed into `out`.
    """
    work = WorkFolder(Path(os.path.realpath(out)), "packed set", activity="packing into")
    key = {"format": FORMAT, "photos": {name: image_set.digest for name, image_set in sets.items()}}

    def has_work() -> bool:
        # When all is done the pixels are renamed first, and only then the rest is removed.
        return (work.path / "packed").is_dir() and any(work.path.glob("done*.npz"))

    def difference(record: dict[str, Any]) -> str:
        return "" if record == key else "other photos, or with these before they were changed"

    def check() -> None:
        if not has_work():
            for stale in work.path.glob("done*.npz"):
                stale.unlink()
            shutil.rmtree(work.path / "packed", ignore_errors=True)
        work.begin(key, difference, has_work())

    with work.open(has_work, check):
        try:
            _pack(sets, work.path, workers, progress)
            work.publish(work.path / "packed")
        except OSError as error:
            raise DeconvnetError(f"{work.out} cannot be written: {error.strerror or error}.") from error
    return {name: open_packed(work.out / name) for name in sets}


def _pack(sets: Mapping[str, ImageSet], work: Path, workers: int | None, progress: bool) -> None:
    files = {name: PixelFile(work / "packed" / name / PIXELS, len(image_set)) for name, image_set in sets.items()}
    for file in files.values():  # of all sets, or the last would find the disk full after hours
        file.reserve()
    for name, image_set in sets.items():
        _pack_set(image_set, files[name], work / f"done-{name}.npz", f"packing {name}".rstrip(), workers, progress)


def _pack_set(image_set: ImageSet, file: PixelFile, state: Path, title: str, workers: int | None, progress: bool) -> None:
    done = Done.load(state, len(image_set))
    due = time.monotonic() + SAVE_EVERY
    with (
        file,
        bar(title, len(image_set), progress, done.count) as advance,
        closing(_squares(image_set, done.count, workers)) as results,
    ):
        for result in results:
            file.write(done.count, result if isinstance(result, np.ndarray) else None)
            done.add(result)
            advance(1)
            if time.monotonic() > due or done.count == len(image_set):
                file.sync()
                done.save(state)
                due = time.monotonic() + SAVE_EVERY
    if not (file.path.parent / MANIFEST).exists():
        write_tables(file.path.parent, image_set, done)


def _squares(image_set: ImageSet, start: int, workers: int | None) -> Generator[np.ndarray | str]:
    """The squares of photos from number `start` on, or the reasons why they cannot be read; decoded ahead."""

    def read(index: int) -> np.ndarray | str:
        try:
            return square(image_set.read(index))
        except UnreadableImage as error:
            if not os.path.lexists(image_set.file(index)):
                raise DeconvnetError(f"{image_set.file(index)} has gone since the photos were listed.") from None
            return str(error)

    threads = workers or os.cpu_count() or 1
    return prefetch(read, range(start, len(image_set)), threads, _AHEAD * threads)
