"""Photos in an order that never changes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from deconvnet.data.decode import read_image


@dataclass(frozen=True)
class ImageSet:
    """Photos in a fixed order; a photo's index in `paths` is its number everywhere else (in hits, in `images.csv`)."""

    root: Path
    paths: tuple[str, ...]
    """Relative to `root`, with forward slashes, ascending."""
    ignored: tuple[str, ...] = ()
    """Files that are no photos by their name; and, with a slash, atlases and folders that may not be opened."""

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Each photo's class folder, empty for a photo that lies in no class folder."""
        return tuple(path.rpartition("/")[0] for path in self.paths)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class folders, ascending."""
        return tuple(sorted(set(self.labels) - {""}))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over relative paths and file sizes: tells two sets apart without reading every photo."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            digest.update(f"{path}\0{self.size(index)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def size(self, index: int) -> int:
        """Bytes of photo number `index`; -1 of a link to nothing, a photo that will be skipped, as broken ones are."""
        try:
            return self.file(index).stat().st_size
        except OSError:
            return -1

    def read(self, index: int) -> Image.Image:
        """Photo number `index` as an RGB picture. Raises `UnreadableImage` with the reason."""
        return read_image(self.file(index))

    def file(self, index: int) -> Path:
        """Where photo number `index` lies."""
        return self.root / self.paths[index]
