"""A packed set: photos as 256×256 pixels in one memory-mapped file, ready to be read without decoding.

docs/file-formats.md says what is in its folder; `pack.py` writes it.
"""

import csv
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deconvnet.data.decode import UnreadableImage
from deconvnet.data.image_set import ImageSet
from deconvnet.data.transforms import SQUARE
from deconvnet.errors import DeconvnetError

FORMAT = 1
MANIFEST = "packed.json"
PIXELS = "pixels.npy"
IMAGES = "images.csv"
MEAN = "mean.npy"


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedImageSet(ImageSet):
    """Photos of a packed set; `paths` are those that they had where they were packed from."""

    pixels: np.ndarray
    """(rows, 256, 256, 3) uint8, memory-mapped; rows of photos that could not be read are zero."""
    rows: np.ndarray
    """(n,) int64, each photo's row of `pixels`."""
    checksums: tuple[str, ...]
    """CRC-32 of each photo's pixels, eight hexadecimal digits."""
    mean: np.ndarray
    """The per-pixel mean of all its photos, (256, 256, 3) float32, 0 to 255."""
    manifest: dict[str, Any]
    """docs/file-formats.md says what is in it."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths and checksums of pixels."""
        return str(self.manifest["digest"])

    def size(self, index: int) -> int:
        return self.square(index).nbytes

    def read(self, index: int) -> Image.Image:
        """Photo number `index`, 256×256. Raises `UnreadableImage` if its pixels are not those that were packed."""
        square = self.square(index)
        if f"{zlib.crc32(square.tobytes()):08x}" != self.checksums[index]:
            raise UnreadableImage("is damaged in the packed set: pack the photos again")
        return Image.fromarray(square)

    def square(self, index: int) -> np.ndarray:
        """Photo number `index` as (256, 256, 3) uint8."""
        return self.pixels[self.rows[index]]


def is_packed(folder: Path) -> bool:
    """Whether `folder` is a packed set, damaged or not."""
    return (folder / MANIFEST).is_file()


def digest_of(paths: Sequence[str], checksums: Sequence[str]) -> str:
    """SHA-256 over paths and checksums of pixels."""
    lines = "".join(f"{path}\0{checksum}\n" for path, checksum in zip(paths, checksums, strict=True))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def open_packed(folder: Path) -> PackedImageSet:
    """Open a packed set. Raises `DeconvnetError` if a part of it is missing, damaged or of another version."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DeconvnetError(f"{folder} was packed by another version of deconvnet: pack the photos again.")
        with (folder / IMAGES).open(encoding="utf-8", newline="", errors="surrogateescape") as table:
            records = list(csv.DictReader(table))
        paths = tuple(record["path"] for record in records)
        rows = np.array([int(record["row"]) for record in records], dtype=np.int64)
        checksums = tuple(record["crc32"] for record in records)
        pixels = np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)
        mean = np.load(folder / MEAN, allow_pickle=False)
        if (pixels.dtype, pixels.shape[1:]) != (np.uint8, (SQUARE, SQUARE, 3)) or not (
            (rows >= 0) & (rows < len(pixels))
        ).all():
            raise ValueError(f"{PIXELS} does not hold its photos")
        if (mean.dtype, mean.shape) != (np.float32, (SQUARE, SQUARE, 3)):
            raise ValueError(f"{MEAN} is no mean image")
        if digest_of(paths, checksums) != manifest["digest"]:
            raise ValueError(f"{IMAGES} is not what was written")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeconvnetError(f"{folder} is not a whole packed set ({reason}): pack the photos again.") from None
    return PackedImageSet(
        root=folder, paths=paths, pixels=pixels, rows=rows, checksums=checksums, mean=mean, manifest=manifest
    )
