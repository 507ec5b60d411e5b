"""The classes of ImageNet 2012."""

import csv
from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1,000 classes of ImageNet 2012 in the order of networks' outputs."""
    with (files("deconvnet.networks") / "imagenet_classes.csv").open(encoding="utf-8") as table:
        return tuple((row["wordnet"], row["name"]) for row in csv.DictReader(table))
