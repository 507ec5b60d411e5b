"""Classes: those of ImageNet 2012, and those that sets of photos have."""

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from deconvnet.data.image_set import ImageSet
from deconvnet.errors import DeconvnetError


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
