"""Photos decoded once, for all: section 3's 256×256 pixels in one file, with labels and the per-pixel mean."""

import csv
import hashlib
import io
import json
import os
import shutil
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from deconvnet.errors import DeconvnetError
from deconvnet.files import locked, refuse_existing, write_whole
from deconvnet.images.classes import named_classes
from deconvnet.images.decode import UnreadableImage
from deconvnet.images.packed import FORMAT, IMAGES, MANIFEST, MEAN, PIXELS, PackedPhotos, open_packed
from deconvnet.images.photos import Photos
from deconvnet.images.views import SQUARE, square
from deconvnet.progress import bar

#: Photos between which the work may be cut, and seconds between two savings.
_BLOCK = 64
_SAVE_EVERY = 10.0

_BYTES = SQUARE * SQUARE * 3
_STATE = "packing.npz"


@dataclass
class _Done:
    """How far the packing of one set is: a position and what was found up to there."""

    source: str
    """Digest of the photos."""
    sums: np.ndarray
    """(256, 256, 3) uint64, over all photos read."""
    checksums: np.ndarray
    """(n,) uint32, CRC-32 of each photo's pixels."""
    skipped: dict[int, str]
    count: int = 0

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        about = json.dumps({"format": FORMAT, "source": self.source, "count": self.count, "skipped": self.skipped})
        np.savez(buffer, sums=self.sums, checksums=self.checksums, about=np.array(about))
        write_whole(folder / _STATE, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path, photos: Photos) -> Self:
        """Where an earlier run stopped, or the beginning. Raises `DeconvnetError` if that run packed other photos."""
        fresh = cls(photos.digest, np.zeros((SQUARE, SQUARE, 3), np.uint64), np.zeros(len(photos), np.uint32), {})
        try:
            with np.load(folder / _STATE, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                if about["format"] != FORMAT or about["source"] != fresh.source:
                    raise DeconvnetError(
                        f"{folder} holds an unfinished packed set of other photos: finish it with the command that began "
                        "it, or remove that folder."
                    )
                skipped = {int(index): str(reason) for index, reason in about["skipped"].items()}
                return cls(fresh.source, saved["sums"], saved["checksums"], skipped, int(about["count"]))
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return fresh


def pack(
    sets: Mapping[str, Photos], out: Path | str, *, workers: int | None = None, progress: bool = False
) -> dict[str, PackedPhotos]:
    """Write sets of photos, named "train" and "val" or just "", as packed sets into the new folder `out`.

    Each photo's shorter side is resized to 256 pixels and the central square kept (section 3). Photos that cannot be read
    are left out and listed in the manifest. Nothing is at `out` until all is done; what an interrupted call has left in
    `.NAME.partial` the next one goes on with. `workers` threads decode (default: one per core).

    Raises `UsageError` if `out` exists, `DeconvnetError` if a set has no readable photo or the disk has too little room.
    """
    out = Path(os.path.realpath(out))
    refuse_existing(out)
    unfinished = out.with_name(f".{out.name}.partial")
    with locked(unfinished / "lock", f"Another process is packing into {out}: wait for it, or choose another --out."):
        for name, photos in sets.items():
            _pack(photos, unfinished / "packed" / name, name, workers, progress)
        if out.exists():
            out.rmdir()  # empty, or it would have been refused
        (unfinished / "packed").rename(out)
        shutil.rmtree(unfinished, ignore_errors=True)
    return {name: open_packed(out / name) for name in sets}


def _pack(photos: Photos, folder: Path, name: str, workers: int | None, progress: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _Done.load(folder, photos)
        if (folder / MANIFEST).exists():
            return
        with (
            _pixel_file(folder / PIXELS, len(photos)) as file,
            bar(f"packing {name}".rstrip(), len(photos), progress, done.count) as advance,
        ):
            due = time.monotonic() + _SAVE_EVERY
            for block in _squares(photos, done.count, workers):
                _add(done, block, file)
                advance(len(block))
                if time.monotonic() > due or done.count == len(photos):
                    os.fsync(file)
                    done.save(folder)
                    due = time.monotonic() + _SAVE_EVERY
        _describe(photos, folder, done)
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _pixel_file(file: Path, photos: int) -> Iterator[int]:
    """The open file for the pixels, with room on the disk for all of them. It is written, not mapped: a full disk then
    raises an error, where writing to mapped memory would end the process.
    """
    header = io.BytesIO()
    shape = (photos, SQUARE, SQUARE, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    content = header.getvalue()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.pwrite(descriptor, content, 0)
        _reserve(descriptor, len(content) + photos * _BYTES, file)
        yield descriptor
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int, file: Path) -> None:
    missing = size - os.fstat(descriptor).st_blocks * 512
    free = shutil.disk_usage(file.parent).free
    if missing > free:
        raise DeconvnetError(
            f"The disk of {file.parent} has {free / 1e9:.1f} GB left, but the pixels take {missing / 1e9:.1f} GB more: make "
            "room, or choose another --out."
        )
    if hasattr(os, "posix_fallocate"):  # not on every system; there a full disk is met later
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _squares(photos: Photos, start: int, workers: int | None) -> Iterator[list[np.ndarray | str]]:
    """The squares of photos from number `start`, or the reasons why they cannot be read, in blocks, decoded ahead."""

    def read(index: int) -> np.ndarray | str:
        try:
            return square(photos.read(index))
        except UnreadableImage as error:
            return str(error)

    blocks = [range(i, min(i + _BLOCK, len(photos))) for i in range(start, len(photos), _BLOCK)]
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        ahead = deque([pool.submit(read, index) for index in block] for block in blocks[:3])
        try:
            for number in range(len(blocks)):
                yield [future.result() for future in ahead.popleft()]
                if number + 3 < len(blocks):
                    ahead.append([pool.submit(read, index) for index in blocks[number + 3]])
        finally:
            pool.shutdown(cancel_futures=True)


def _add(done: _Done, block: list[np.ndarray | str], file: int) -> None:
    header = os.fstat(file).st_size - len(done.checksums) * _BYTES
    for index, result in enumerate(block, done.count):
        if isinstance(result, str):
            done.skipped[index] = result
            continue
        pixels = result.tobytes()
        written = 0
        while written < _BYTES:  # one call may write less
            written += os.pwrite(file, pixels[written:], header + index * _BYTES + written)
        done.checksums[index] = zlib.crc32(pixels)
        done.sums += result
    done.count += len(block)


def _describe(photos: Photos, folder: Path, done: _Done) -> None:
    """Write all but the pixels; the manifest, which makes a packed set of the folder, last."""
    good = [index for index in range(len(photos)) if index not in done.skipped]
    if not good:
        index, reason = next(iter(done.skipped.items()))
        raise DeconvnetError(f"None of the {len(photos)} photos can be read: {photos.paths[index]} {reason}.")
    digest = hashlib.sha256()
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["path", "row", "crc32"])
    for index in good:
        record = (photos.paths[index], index, f"{done.checksums[index]:08x}")
        writer.writerow(record)
        digest.update(f"{record[0]}\0{record[2]}\n".encode(errors="surrogateescape"))
    write_whole(folder / IMAGES, table.getvalue().encode(errors="surrogateescape"))
    mean = io.BytesIO()
    np.save(mean, (done.sums / len(good)).astype(np.float32))
    write_whole(folder / MEAN, mean.getvalue())
    classes = sorted({photos.labels[index] for index in good} - {""})
    manifest = {
        "format": FORMAT,
        "photos": len(good),
        "size": SQUARE,
        "digest": digest.hexdigest(),
        "classes": named_classes(classes),
        "ignored": photos.ignored,
        "skipped": [{"path": photos.paths[index], "reason": reason} for index, reason in sorted(done.skipped.items())],
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    (folder / _STATE).unlink(missing_ok=True)
