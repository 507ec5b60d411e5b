"""Photos in an order that never changes."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from PIL import Image

from deconvnet.data.decode import read_image
from deconvnet.errors import DeconvnetError


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


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1,000 classes of ImageNet 2012 in the order of networks' outputs."""
    with (files("deconvnet.data") / "imagenet_classes.csv").open(encoding="utf-8") as table:
        return tuple((row["wordnet"], row["name"]) for row in csv.DictReader(table))


def named_classes(folders: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(id, name) of classes that are called like `folders`: WordNet ids of ImageNet 2012 get its names, others their own."""
    names = dict(imagenet_classes())
    return tuple((folder, names.get(folder, folder)) for folder in folders)


def require_labels(image_set: ImageSet) -> None:
    """Raise `DeconvnetError` unless all photos lie in class folders."""
    if "" in image_set.labels:
        loose = image_set.paths[image_set.labels.index("")]
        raise DeconvnetError(
            f"{image_set.root} has photos outside of class folders, such as {loose}, and nothing says what they show: sort "
            "them into one folder per class, called by its WordNet id if it is one of ImageNet's."
        )


def require_same_classes(train: ImageSet, val: ImageSet) -> None:
    """Raise `DeconvnetError` unless all photos of both sets lie in class folders, and in the same ones."""
    for image_set in (train, val):
        require_labels(image_set)
    for one, other in ((train, val), (val, train)):
        if lacking := sorted(set(one.classes) - set(other.classes)):
            raise DeconvnetError(
                f"The classes of {train.root} and {val.root} differ: {len(lacking)} have no photo in {other.root.name}, "
                f"such as {lacking[0]}."
            )
