"""The classes of ImageNet 2012."""

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1,000 classes of ImageNet 2012 in the order of networks' outputs."""
    with (files("deconvnet.images") / "imagenet_classes.csv").open(encoding="utf-8") as table:
        return tuple((row["wordnet"], row["name"]) for row in csv.DictReader(table))


def named_classes(folders: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(id, name) of classes that are called like `folders`: WordNet ids of ImageNet 2012 get ImageNet's names."""
    names = dict(imagenet_classes())
    return tuple((folder, names.get(folder, folder)) for folder in folders)
