"""Class labels of images, and the network outputs that stand for them."""

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

#: Classes that an error lists, at most.
_MAX_LISTED_CLASSES = 20


@dataclass(frozen=True)
class ClassOutputs:
    """The outputs of a network that stand for the classes of an image set."""

    ids: tuple[str, ...]
    """The class id of every output of the network; a prediction is one of all of them."""
    indices: tuple[int, ...]
    """The index of the output for each class of the image set."""
    matched_by: Literal["id", "number"]
    """Matched by class id, or, where the network has no ids, in ascending order."""


def find_labelled_images(data: Path | str | ImageSet) -> ImageSet:
    """The labelled images of `data`: a folder with a folder per class, a packed set, or a folder with such a `val` in it.

    Raises `DeconvnetError` for images outside of class folders, and what `find_images` raises.
    """
    if not isinstance(data, ImageSet):
        data = Path(data)
        if (data / "val").is_dir():
            data = data / "val"
    image_set = find_images(data)
    require_labels(image_set)
    return image_set


def match_classes(network: Network, image_set: ImageSet) -> ClassOutputs:
    """Match the class folders of an image set with the network's outputs.

    They are matched by id (ImageNet's classes have their WordNet ids), so a network of 1,000 classes can be evaluated on
    images of ten; its prediction is still one of all 1,000. A network without ids is matched in ascending order, if it has
    as many outputs as there are folders.

    Raises `DeconvnetError` for a trunk, for a network whose output is no class scores, and for folders that match no output.
    """
    if not network.classifies:
        raise DeconvnetError(
            f"{network.full_name} cannot be judged, as it has no classifier: pass weights that hold the fully connected "
            "layers too."
        )
    count = count_classes(network)
    ids = tuple(id for id, _ in network.classes or ())
    index_by_id = {id: index for index, id in enumerate(ids) if id}
    if not index_by_id:
        if len(image_set.classes) != count:
            raise DeconvnetError(
                f"{network.full_name} does not say what its {count:,} classes are, and {image_set.root} has "
                f"{len(image_set.classes):,} of them: only equal numbers could be matched in ascending order. Name its "
                "classes, as in Network(module, preprocessing, classes=[(id, name), …])."
            )
        return ClassOutputs(image_set.classes, tuple(range(count)), "number")
    if missing := [folder for folder in image_set.classes if folder not in index_by_id]:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
        raise DeconvnetError(
            f"{network.full_name} knows no class {listed}, so it cannot be judged by {image_set.root}: class folders are "
            f"called by the ids of its {count:,} classes, such as {next(iter(index_by_id))}."
        )
    return ClassOutputs(ids, tuple(index_by_id[folder] for folder in image_set.classes), "id")


def count_classes(network: Network) -> int:
    """The number of classes of a network. Raises `DeconvnetError` if its output is not one score for each class."""
    scores = network.probabilities(torch.zeros(1, *network.input_shape))
    if scores.dim() != 2 or len(network.classes or range(scores.shape[1])) != scores.shape[1]:
        raise DeconvnetError(
            f"{network.full_name} cannot be judged: of one photo it makes a tensor of shape {tuple(scores.shape)}, not one "
            f"score for each of {len(network.classes) if network.classes else 'its'} classes."
        )
    return scores.shape[1]


def find_class(network: Network, label: str) -> int:
    """The index of the class with this id (`n02085620`), this name in any case, or else this index.

    If a name consists of several, separated by commas, each of them matches. Raises `UsageError` if no class matches or
    more than one, and for a network without a classifier.
    """
    if not network.classifies:
        raise UsageError(f"{network.full_name} has no classifier, so it knows no class {label!r}: leave --label out.")
    classes = network.classes or [("", "")] * count_classes(network)
    key = label.strip().casefold()
    matches = [
        index
        for index, (id, name) in enumerate(classes)
        if key in (id.casefold(), name.casefold(), *(synonym.strip().casefold() for synonym in name.split(",")))
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(classes[index][0] or str(index) for index in matches)
        raise UsageError(f"{network.full_name} has {len(matches)} classes called {label!r}: pass one of {ids}.")
    if label.isdecimal():
        if int(label) < len(classes):
            return int(label)
        raise UsageError(f"{network.full_name} has the classes 0 to {len(classes) - 1}, not {label}.")
    synonyms = sorted({synonym.strip() for _, name in classes for synonym in name.split(",") if synonym})
    similar = get_close_matches(key, [synonym.casefold() for synonym in synonyms], n=3)
    similar += [synonym for synonym in synonyms if key in synonym.casefold().split()][:3]
    hint = "pass its id, its name or its number"
    if synonyms and len(classes) <= _MAX_LISTED_CLASSES:
        hint = f"its classes are {', '.join(f'{id} ({name})' if id else name for id, name in classes)}"
    elif similar:
        hint = f"there is {', '.join(dict.fromkeys(similar))}"
    raise UsageError(f"{network.full_name} has no class {label!r}: {hint}.")


def predict_class(network: Network, x: Tensor) -> int:
    """The index of the most probable class of one input x (C, H, W). Raises `DeconvnetError` if none is."""
    probabilities = network.probabilities(x[None])
    check_finite(network, probabilities)
    return int(probabilities.argmax())


def check_finite(network: Network, values: Tensor) -> None:
    """Raise `DeconvnetError` unless all `values`, which the network's output gave, are finite. Waits for their device."""
    if not values.isfinite().all():
        raise DeconvnetError(
            f"{network.full_name} gives probabilities that are no numbers: {network.reason_for_non_finite}."
        )


def class_name(network: Network, index: int) -> str:
    """The display name of a class: its name up to the first comma.

    Its id (or index) is added in brackets where other classes have the same display name, as ImageNet's two cranes do.
    A class without a name is shown by its id, or as "class 7".
    """
    if not network.classes:
        return f"class {index}"
    id, name = network.classes[index]
    short_name = name.partition(",")[0]
    if not short_name:
        return id or f"class {index}"
    is_ambiguous = sum(name.partition(",")[0] == short_name for _, name in network.classes) > 1
    return f"{short_name} ({id or index})" if is_ambiguous else short_name
