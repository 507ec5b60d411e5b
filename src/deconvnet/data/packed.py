"""Read a packed set: images as 256×256 pixels in one memory-mapped file, which need no decoding.

docs/file-formats.md describes the files of its folder; `packing.py` writes them.
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
from deconvnet.data.transforms import SQUARE_SIZE
from deconvnet.errors import DeconvnetError

FORMAT_VERSION = 1
MANIFEST_FILE = "packed.json"
PIXELS_FILE = "pixels.npy"
IMAGES_FILE = "images.csv"
MEAN_FILE = "mean.npy"


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedImageSet(ImageSet):
    """The images of a packed set. `paths` are those in the folder that was packed, not files."""

    pixels: np.ndarray
    """(rows, 256, 256, 3) uint8, memory-mapped. Rows of images that could not be read are zero."""
    rows: np.ndarray
    """(n,) int64, each image's row of `pixels`."""
    checksums: tuple[str, ...]
    """CRC-32 of each image's pixels, eight hexadecimal digits."""
    mean: np.ndarray
    """The per-pixel mean of all images, (256, 256, 3) float32, 0 to 255."""
    manifest: dict[str, Any]
    """The content of `packed.json`."""

    @cached_property
    def digest(self) -> str:  # type: ignore[override]
        """SHA-256 over paths and checksums."""
        return str(self.manifest["digest"])

    def num_bytes(self, index: int) -> int:
        return self.square(index).nbytes

    def read(self, index: int) -> Image.Image:
        """An image, 256×256. Raises `UnreadableImage` if its pixels are not those that were packed."""
        square = self.square(index)
        if f"{zlib.crc32(square.tobytes()):08x}" != self.checksums[index]:
            raise UnreadableImage("is damaged in the packed set: pack the photos again")
        return Image.fromarray(square)

    def square(self, index: int) -> np.ndarray:
        """An image's pixels, (256, 256, 3) uint8, memory-mapped and not compared with its checksum."""
        return self.pixels[self.rows[index]]


def is_packed(folder: Path) -> bool:
    """Whether `folder` holds a packed set, damaged or not."""
    return (folder / MANIFEST_FILE).is_file()


def content_digest(paths: Sequence[str], checksums: Sequence[str]) -> str:
    """SHA-256 over paths and checksums of pixels."""
    lines = "".join(f"{path}\0{checksum}\n" for path, checksum in zip(paths, checksums, strict=True))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def open_packed(folder: Path) -> PackedImageSet:
    """Open a packed set. Raises `DeconvnetError` if a file of it is missing, damaged or of another version."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT_VERSION:
            raise DeconvnetError(f"{folder} was packed by another version of deconvnet: pack the photos again.")
        with (folder / IMAGES_FILE).open(encoding="utf-8", newline="", errors="surrogateescape") as table:
            records = list(csv.DictReader(table))
        paths = tuple(record["path"] for record in records)
        rows = np.array([int(record["row"]) for record in records], dtype=np.int64)
        checksums = tuple(record["crc32"] for record in records)
        pixels = np.load(folder / PIXELS_FILE, mmap_mode="r", allow_pickle=False)
        mean = np.load(folder / MEAN_FILE, allow_pickle=False)
        square_shape = (SQUARE_SIZE, SQUARE_SIZE, 3)
        if (pixels.dtype, pixels.shape[1:]) != (np.uint8, square_shape) or not ((rows >= 0) & (rows < len(pixels))).all():
            raise ValueError(f"{PIXELS_FILE} does not hold its photos")
        if (mean.dtype, mean.shape) != (np.float32, square_shape):
            raise ValueError(f"{MEAN_FILE} is no mean image")
        if content_digest(paths, checksums) != manifest["digest"]:
            raise ValueError(f"{IMAGES_FILE} is not what was written")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeconvnetError(f"{folder} is not a whole packed set ({reason}): pack the photos again.") from None
    return PackedImageSet(
        root=folder, paths=paths, pixels=pixels, rows=rows, checksums=checksums, mean=mean, manifest=manifest
    )
