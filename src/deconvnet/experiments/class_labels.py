"""Photos that say what they show, and the outputs of a network that stand for it."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.data.image_set import require_labels
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import Network

#: Classes that an error lists.
_FEW = 20


@dataclass(frozen=True)
class Outputs:
    """Where a network says what photos are judged by."""

    ids: tuple[str, ...]
    """What each output stands for; a prediction is one of all of them."""
    numbers: tuple[int, ...]
    """The output of each of the photos' classes."""
    by: Literal["id", "number"]
    """How they were found; by number in ascending order."""


def find_labelled_images(data: Path | str | ImageSet) -> ImageSet:
    """The photos to judge by: those of `data`, a folder with a folder per class or a packed set, or of `val` in it.

    Raises `DeconvnetError` for photos outside of class folders, and what `find_images` raises.
    """
    if not isinstance(data, ImageSet):
        data = Path(data)
        if (data / "val").is_dir():
            data = data / "val"
    image_set = find_images(data)
    require_labels(image_set)
    return image_set


def match_classes(network: Network, image_set: ImageSet) -> Outputs:
    """Match the photos' class folders with the network's outputs.

    They are matched by id (ImageNet's classes have their WordNet ids), so that a network of 1,000 classes is judged by
    photos of ten: its prediction remains one of all its classes. A network that names no ids is matched by number, if it
    has as many outputs as there are folders.

    Raises `DeconvnetError` for a trunk, for a network whose output is no class scores, and for folders that no output
    stands for.
    """
    if not network.classifies:
        raise DeconvnetError(
            f"{network.full_name} cannot be judged, as it has no classifier: pass weights that hold the fully connected "
            "layers too."
        )
    count = count_classes(network)
    ids = tuple(id for id, _ in network.classes or ())
    numbers = {id: number for number, id in enumerate(ids) if id}
    if not numbers:
        if len(image_set.classes) != count:
            raise DeconvnetError(
                f"{network.full_name} does not say what its {count:,} classes are, and {image_set.root} has "
                f"{len(image_set.classes):,} of them: only equal numbers could be matched in ascending order. Name its "
                "classes, as in Network(module, preprocessing, classes=[(id, name), …])."
            )
        return Outputs(image_set.classes, tuple(range(count)), "number")
    if missing := [name for name in image_set.classes if name not in numbers]:
        named = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
        raise DeconvnetError(
            f"{network.full_name} knows no class {named}, so it cannot be judged by {image_set.root}: class folders are called "
            f"by the ids of its {count:,} classes, such as {next(iter(numbers))}."
        )
    return Outputs(ids, tuple(numbers[name] for name in image_set.classes), "id")


def count_classes(network: Network) -> int:
    """How many classes a network tells apart. Raises `DeconvnetError` if its output is no score for each of its classes."""
    size = network.preprocessing.crop
    scores = network.probabilities(torch.zeros(1, 3, size, size))
    if scores.dim() != 2 or len(network.classes or range(scores.shape[1])) != scores.shape[1]:
        raise DeconvnetError(
            f"{network.full_name} cannot be judged: of one photo it makes a tensor of shape {tuple(scores.shape)}, not one "
            f"score for each of {len(network.classes) if network.classes else 'its'} classes."
        )
    return scores.shape[1]


def find_class(network: Network, label: str) -> int:
    """The output of a class that is given by its id (`n02085620`), by its name, in any case, or else by its number.

    A name of several words with commas between them is found by each of them. Raises `UsageError` if there is no such class
    or more than one, and for a network without a classifier.
    """
    if not network.classifies:
        raise UsageError(f"{network.full_name} has no classifier, so it knows no class {label!r}: leave --label out.")
    classes = network.classes or [("", "")] * count_classes(network)
    wanted = label.strip().casefold()
    found = [
        number
        for number, (id, name) in enumerate(classes)
        if wanted in (id.casefold(), name.casefold(), *(part.strip().casefold() for part in name.split(",")))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(classes[number][0] or str(number) for number in found)
        raise UsageError(f"{network.full_name} has {len(found)} classes called {label!r}: pass one of {ids}.")
    if label.isdecimal():
        if int(label) < len(classes):
            return int(label)
        raise UsageError(f"{network.full_name} has the classes 0 to {len(classes) - 1}, not {label}.")
    parts = sorted({part.strip() for _, name in classes for part in name.split(",") if part})
    near = get_close_matches(wanted, [part.casefold() for part in parts], n=3)
    near += [part for part in parts if wanted in part.casefold().split()][:3]
    hint = "pass its id, its name or its number"
    if parts and len(classes) <= _FEW:
        hint = f"its classes are {', '.join(f'{id} ({name})' if id else name for id, name in classes)}"
    elif near:
        hint = f"there is {', '.join(dict.fromkeys(near))}"
    raise UsageError(f"{network.full_name} has no class {label!r}: {hint}.")


def predicted(network: Network, x: Tensor) -> int:
    """The most probable class of x (3, crop, crop)."""
    return int(network.probabilities(x[None]).argmax())


def class_name(network: Network, number: int) -> str:
    """A class's name, short; with its id where others are called the same, as ImageNet's two cranes are."""
    if not network.classes:
        return f"class {number}"
    short = [name.partition(",")[0] for _, name in network.classes]
    alike = short.count(short[number]) > 1
    return f"{short[number]} ({network.classes[number][0] or number})" if alike else short[number]
