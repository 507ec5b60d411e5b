"""A set of images in a fixed order, and the classes that its folders stand for."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from PIL import Image

from deconvnet.data.decode import read_image
from deconvnet.data.input_set import InputSet
from deconvnet.errors import DeconvnetError


@dataclass(frozen=True)
class ImageSet(InputSet):
    """Images in a fixed order. An image's index in `paths` is its number everywhere else (in hits, in `images.csv`)."""

    noun = "photo"
    what_changed = "has other pixels than when it was mined, so mine again"

    root: Path
    paths: tuple[str, ...]
    """Relative to `root`, with forward slashes, in ascending order."""
    ignored: tuple[str, ...] = ()
    """Files whose names are not those of images; and, with a trailing slash, atlases and folders that cannot be opened."""

    @property
    def title(self) -> str:
        return str(self.root)

    def describe(self, index: int) -> str:
        return str(self.file(index))

    def caption(self, index: int) -> str:
        return self.paths[index]

    @cached_property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Each image's class folder; "" for an image outside of class folders."""
        return tuple(path.rpartition("/")[0] for path in self.paths)

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The class folders, in ascending order."""
        return tuple(sorted(set(self.labels) - {""}))

    @cached_property
    def digest(self) -> str:  # type: ignore[override]
        """SHA-256 over relative paths and file sizes: identifies the set without reading every image."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            digest.update(f"{path}\0{self.num_bytes(index)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def num_bytes(self, index: int) -> int:
        """Size of an image's file; -1 for a broken link, which is skipped later as broken images are."""
        try:
            return self.file(index).stat().st_size
        except OSError:
            return -1

    def read(self, index: int) -> Image.Image:
        """Decode an image to RGB. Raises `UnreadableImage` with the reason."""
        return read_image(self.file(index))

    def file(self, index: int) -> Path:
        """The file that holds an image."""
        return self.root / self.paths[index]


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1,000 classes of ImageNet 2012, in the order of networks' outputs."""
    with (files("deconvnet.data") / "imagenet_classes.csv").open(encoding="utf-8") as table:
        return tuple((row["wordnet"], row["name"]) for row in csv.DictReader(table))


def classes_from_folders(folders: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(folder, name) of each class folder: ImageNet's name if the folder is a WordNet id of ImageNet 2012, else its own."""
    names = dict(imagenet_classes())
    return tuple((folder, names.get(folder, folder)) for folder in folders)


def require_labels(image_set: ImageSet) -> None:
    """Raise `DeconvnetError` unless all images are in class folders."""
    if "" in image_set.labels:
        unlabelled = image_set.paths[image_set.labels.index("")]
        raise DeconvnetError(
            f"{image_set.root} has photos outside of class folders, such as {unlabelled}, and nothing says what they show: "
            "sort them into one folder per class, called by its WordNet id if it is one of ImageNet's."
        )


def require_same_classes(train: ImageSet, val: ImageSet) -> None:
    """Raise `DeconvnetError` unless all images of both sets are in class folders, and in the same ones."""
    for image_set in (train, val):
        require_labels(image_set)
    for first, second in ((train, val), (val, train)):
        if missing := sorted(set(first.classes) - set(second.classes)):
            raise DeconvnetError(
                f"The classes of {train.root} and {val.root} differ: {len(missing)} have no photo in {second.root.name}, "
                f"such as {missing[0]}."
            )
