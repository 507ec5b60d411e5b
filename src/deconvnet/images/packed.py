"""A packed set: photos as 256×256 pixels in one memory-mapped file, ready to be read without decoding.

docs/file-formats.md says what is in its folder; `pack.py` writes it.
"""

import csv
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from deconvnet.errors import DeconvnetError
from deconvnet.images.photos import Photos
from deconvnet.images.views import SQUARE

FORMAT = 1
MANIFEST = "packed.json"
PIXELS = "pixels.npy"
IMAGES = "images.csv"
MEAN = "mean.npy"


@dataclass(frozen=True, eq=False)
class PackedPhotos(Photos):
    """Photos of a packed set; `paths` are those that they had in the folder that was packed."""

    pixels: np.ndarray = field(default_factory=lambda: np.empty((0, SQUARE, SQUARE, 3), np.uint8))
    """(rows, 256, 256, 3) uint8, memory-mapped; rows of photos that could not be read hold nothing."""
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,) each photo's row of `pixels`."""
    stated_digest: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths and checksums of pixels, as the manifest states it."""
        return self.stated_digest

    @cached_property
    def mean(self) -> np.ndarray:
        """The per-pixel mean of all its photos, (256, 256, 3) float32, 0 to 255."""
        return np.load(self.root / MEAN, allow_pickle=False)

    def read(self, index: int) -> Image.Image:
        """Photo number `index`, 256×256."""
        return Image.fromarray(self.square(index))

    def square(self, index: int) -> np.ndarray:
        """Photo number `index` as (256, 256, 3) uint8."""
        return self.pixels[self.rows[index]]


def is_packed(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def open_packed(folder: Path) -> PackedPhotos:
    """Open a packed set. Raises `DeconvnetError` if a part of it is missing, damaged or of another version."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DeconvnetError(f"{folder} was packed by another version of deconvnet: pack the photos again.")
        with (folder / IMAGES).open(encoding="utf-8", newline="", errors="surrogateescape") as table:
            records = list(csv.DictReader(table))
        pixels = np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)
        rows = np.array([int(record["row"]) for record in records], dtype=np.int64)
        paths = tuple(record["path"] for record in records)
        digest = str(manifest["digest"])
        whole = pixels.dtype == np.uint8 and pixels.shape[1:] == (SQUARE, SQUARE, 3) and len(rows) == manifest["photos"]
        if not whole or not ((rows >= 0) & (rows < len(pixels))).all():
            raise ValueError("its files do not fit together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeconvnetError(f"{folder} is not a whole packed set ({reason}): pack the photos again.") from None
    return PackedPhotos(folder, paths, pixels=pixels, rows=rows, stated_digest=digest)
