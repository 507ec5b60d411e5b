"""Write a packed set, whose images need no decoding (see `packed.py`), and resume writing it after a kill."""

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
from deconvnet.data.image_set import ImageSet, classes_from_folders
from deconvnet.data.loader import prefetch
from deconvnet.data.packed import (
    FORMAT_VERSION,
    IMAGES_FILE,
    MANIFEST_FILE,
    MEAN_FILE,
    PIXELS_FILE,
    PackedImageSet,
    content_digest,
    open_packed,
)
from deconvnet.data.transforms import SQUARE_SIZE, central_square
from deconvnet.environment import core_count
from deconvnet.errors import DeconvnetError
from deconvnet.progress import progress_bar
from deconvnet.storage import WorkFolder, atomic_write

_SQUARE_SHAPE = (SQUARE_SIZE, SQUARE_SIZE, 3)
_SQUARE_BYTES = SQUARE_SIZE * SQUARE_SIZE * 3

#: Seconds between two saves of the progress.
SAVE_INTERVAL = 10.0

#: Images that each thread decodes ahead.
_AHEAD_PER_THREAD = 8


def pack(
    sets: Mapping[str, ImageSet], out: Path | str, *, workers: int | None = None, progress: bool = False
) -> dict[str, PackedImageSet]:
    """Write image sets, named "train" and "val" or just "", as packed sets to the new folder `out`.

    Each image's shorter side is resized to 256 pixels and the central square kept (section 3). Images that cannot be read
    are left out and listed in the manifest. `out` appears when everything is written; the same call resumes an interrupted
    one. `workers` threads decode (default: one per core).

    Raises `UsageError` if `out` exists; `DeconvnetError` if a set has no readable image, if images disappear while they are
    read, if the disk has too little space, or if other images were being packed into `out`.
    """
    work = WorkFolder(Path(os.path.realpath(out)), "packed set", activity="packing into")
    record = {"format": FORMAT_VERSION, "photos": {name: image_set.digest for name, image_set in sets.items()}}

    def has_work() -> bool:
        # A finished call renames the pixels first and only then removes the rest.
        return (work.path / "packed").is_dir() and any(work.path.glob("done*.npz"))

    def difference(other_record: dict[str, Any]) -> str:
        return "" if other_record == record else "other photos, or with these before they were changed"

    with work.open(has_work):
        if not has_work():
            for stale in work.path.glob("done*.npz"):
                stale.unlink()
            shutil.rmtree(work.path / "packed", ignore_errors=True)
        work.begin(record, difference, has_work())
        try:
            _pack_sets(sets, work.path, workers, progress)
            work.publish(work.path / "packed")
        except OSError as error:
            raise DeconvnetError(f"{work.out} cannot be written: {error.strerror or error}.") from error
    return {name: open_packed(work.out / name) for name in sets}


def _pack_sets(sets: Mapping[str, ImageSet], folder: Path, workers: int | None, progress: bool) -> None:
    files = {name: PixelFile(folder / "packed" / name / PIXELS_FILE, len(image_set)) for name, image_set in sets.items()}
    for file in files.values():  # of all sets, or the last might find the disk full after hours
        file.reserve()
    for name, image_set in sets.items():
        _pack_set(image_set, files[name], folder / f"done-{name}.npz", f"packing {name}".rstrip(), workers, progress)


def _pack_set(
    image_set: ImageSet, file: "PixelFile", progress_file: Path, description: str, workers: int | None, progress: bool
) -> None:
    done = PackingProgress.load(progress_file, len(image_set))
    next_save = time.monotonic() + SAVE_INTERVAL
    with (
        file,
        progress_bar(description, len(image_set), progress, done.count) as advance,
        closing(_central_squares(image_set, done.count, workers)) as results,
    ):
        for result in results:
            file.write(done.count, result if isinstance(result, np.ndarray) else None)
            done.add(result)
            advance(1)
            if time.monotonic() > next_save or done.count == len(image_set):
                file.sync()
                done.save(progress_file)
                next_save = time.monotonic() + SAVE_INTERVAL
    if not (file.path.parent / MANIFEST_FILE).exists():
        _write_metadata(file.path.parent, image_set, done)


def _central_squares(image_set: ImageSet, start: int, workers: int | None) -> Generator[np.ndarray | str]:
    """The squares (256, 256, 3) of images from index `start` on, or the reasons why they cannot be read; decoded ahead."""

    def read(index: int) -> np.ndarray | str:
        try:
            return central_square(image_set.read(index))
        except UnreadableImage as error:
            if not os.path.lexists(image_set.file(index)):
                raise DeconvnetError(f"{image_set.file(index)} has gone since the photos were listed.") from None
            return str(error)

    threads = workers or core_count()
    return prefetch(read, range(start, len(image_set)), threads, _AHEAD_PER_THREAD * threads)


class PixelFile:
    """The .npy file of the pixels of `num_images` images, (num_images, 256, 256, 3) uint8, written row by row.

    It is not memory-mapped: a full disk then raises an error, where writing to mapped memory would kill the process.
    """

    def __init__(self, path: Path, num_images: int) -> None:
        header = io.BytesIO()
        shape = (num_images, *_SQUARE_SHAPE)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.path, self._header = path, header.getvalue()
        self._num_bytes = len(self._header) + num_images * _SQUARE_BYTES

    def reserve(self) -> None:
        """Create the file with its full size. Raises `DeconvnetError` if the disk has too little space."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self:
            missing = self._num_bytes - os.fstat(self._descriptor).st_blocks * 512
            free = shutil.disk_usage(self.path.parent).free
            if missing > free:
                raise DeconvnetError(
                    f"The disk of {self.path.parent} has {free / 1e9:.1f} GB left, but the pixels take "
                    f"{missing / 1e9:.1f} GB more: make room, or choose another --out."
                )
            try:
                os.posix_fallocate(self._descriptor, 0, self._num_bytes)
            except (AttributeError, OSError) as error:
                # Not every system or file system can; there a full disk is met later.
                if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                os.truncate(self._descriptor, self._num_bytes)
            self._write(self._header, 0)

    def __enter__(self) -> Self:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def write(self, row: int, square: np.ndarray | None) -> None:
        """Write an image's pixels, or zeros for one that could not be read, to row `row`."""
        content = bytes(_SQUARE_BYTES) if square is None else square.tobytes()
        self._write(content, len(self._header) + row * _SQUARE_BYTES)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def _write(self, content: bytes, offset: int) -> None:
        written = 0
        while written < len(content):  # one call may write less
            written += os.pwrite(self._descriptor, content[written:], offset + written)


@dataclass
class PackingProgress:
    """How many images of a set are packed, and what is known of these."""

    sums: np.ndarray
    """(256, 256, 3) uint64, sum of all images that could be read."""
    checksums: np.ndarray
    """(n,) uint32, CRC-32 of each image's pixels."""
    skipped: dict[int, str]
    """Index → reason of each image that could not be read."""
    count: int = 0

    def add(self, result: np.ndarray | str) -> None:
        """Count the next image: its square, or the reason why it cannot be read."""
        if isinstance(result, str):
            self.skipped[self.count] = result
        else:
            self.checksums[self.count] = zlib.crc32(result.tobytes())
            self.sums += result
        self.count += 1

    def save(self, file: Path) -> None:
        buffer = io.BytesIO()
        summary = json.dumps({"count": self.count, "skipped": self.skipped})
        np.savez(buffer, sums=self.sums, checksums=self.checksums, about=np.array(summary))
        atomic_write(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path, num_images: int) -> Self:
        """The progress of an earlier run; that of a start if `file` does not exist or is damaged."""
        try:
            with np.load(file, allow_pickle=False) as saved:
                summary = json.loads(str(saved["about"]))
                skipped = {int(index): str(reason) for index, reason in summary["skipped"].items()}
                return cls(saved["sums"], saved["checksums"], skipped, int(summary["count"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return cls(np.zeros(_SQUARE_SHAPE, np.uint64), np.zeros(num_images, np.uint32), {})


def _write_metadata(folder: Path, image_set: ImageSet, done: PackingProgress) -> None:
    """Write all files but the pixels; last the manifest, by which a folder counts as a packed set.

    Raises `DeconvnetError` if no image could be read.
    """
    rows = [index for index in range(len(image_set)) if index not in done.skipped]
    if not rows:
        raise DeconvnetError(
            f"None of the {len(image_set)} photos in {image_set.root} can be read: {image_set.paths[0]} {done.skipped[0]}."
        )
    paths, checksums = [image_set.paths[row] for row in rows], [f"{done.checksums[row]:08x}" for row in rows]
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "row", "crc32"])
    writer.writerows(zip(paths, rows, checksums, strict=True))
    atomic_write(folder / IMAGES_FILE, table.getvalue().encode(errors="surrogateescape"))
    mean = io.BytesIO()
    np.save(mean, (done.sums / len(rows)).astype(np.float32))
    atomic_write(folder / MEAN_FILE, mean.getvalue())
    manifest = {
        "format": FORMAT_VERSION,
        "photos": len(rows),
        "size": SQUARE_SIZE,
        "digest": content_digest(paths, checksums),
        "classes": classes_from_folders(sorted({image_set.labels[row] for row in rows} - {""})),
        "ignored": image_set.ignored,
        "skipped": [{"path": image_set.paths[index], "reason": reason} for index, reason in sorted(done.skipped.items())],
    }
    atomic_write(folder / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
