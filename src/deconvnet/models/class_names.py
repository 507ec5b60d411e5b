"""The names of a network's classes, from what libraries attach to their modules and weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from deconvnet.data.image_set import imagenet_classes

ClassNames = tuple[tuple[str, str], ...]


def find_class_names(module: nn.Module, source: Any) -> ClassNames | None:
    """(WordNet id or "", name) of each output of torchvision's, timm's and transformers' modules; None if none are stated.

    `source` is what its preprocessing was made of: of torchvision's weights the names are taken if the module has as many
    outputs, as a classifier that was replaced for other classes has not. timm's modules, and those of transformers, say
    themselves what they tell apart.
    """
    configuration = getattr(module, "config", None)
    labels = getattr(configuration, "id2label", None)
    if isinstance(labels, Mapping) and sorted(labels) == list(range(len(labels))):
        names = [str(labels[index]) for index in range(len(labels))]
        return None if names == [f"LABEL_{index}" for index in range(len(names))] else _with_ids(names)
    count = getattr(module, "num_classes", None)
    stated = getattr(module, "pretrained_cfg", None)
    if isinstance(stated, Mapping) and "num_classes" in stated:  # timm's
        names = list(stated.get("label_names") or ())
        if len(names) == count:
            descriptions = stated.get("label_descriptions") or {}
            return tuple((name, str(descriptions.get(name, name))) for name in names)
        return imagenet_classes() if count == stated["num_classes"] == len(imagenet_classes()) else None
    names = list((getattr(source, "meta", None) or {}).get("categories") or ()) if hasattr(source, "transforms") else []
    last = [parameter for parameter in module.parameters() if parameter.dim() > 1][-1:]
    return _with_ids(names) if names and last and last[0].shape[0] == len(names) else None


def _with_ids(names: list[str]) -> ClassNames:
    """The names, with WordNet ids if they are ImageNet's."""
    imagenet = imagenet_classes()
    return imagenet if names == [name for _, name in imagenet] else tuple(("", name) for name in names)
