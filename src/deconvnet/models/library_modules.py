"""Names of classes, and what libraries attach of them and of preprocessing to their modules and weights."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvnet.data.as_preprocessing import AnyPreprocessing
from deconvnet.data.image_set import imagenet_classes
from deconvnet.errors import DeconvnetWarning, UsageError

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


def warn_of_other_preprocessing(module: nn.Module, preprocessing: AnyPreprocessing | None, name: str) -> None:
    """Warn if timm states that a module's weights were trained with another mean or std, by more than 2 %."""
    stated = getattr(module, "pretrained_cfg", None)
    if preprocessing is None or not isinstance(stated, Mapping):
        return
    mean, std = (value.flatten() / preprocessing.scale for value in (preprocessing.mean.mean((1, 2)), preprocessing.std))
    for word, ours, theirs in (("mean", mean, stated.get("mean")), ("std", std, stated.get("std"))):
        if theirs is not None and len(theirs) == 3 and (ours - torch.tensor(theirs)).abs().max() > 0.02:
            warnings.warn(
                f"{name} is shown images with a {word} of {_numbers(ours)}, but timm states "
                f"{_numbers(torch.tensor(theirs))}: pass timm.data.resolve_model_data_config(module), unless you trained it "
                "with others.",
                DeconvnetWarning,
                stacklevel=3,
            )


def _numbers(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"


def checked_classes(classes: Sequence[tuple[str, str]]) -> ClassNames:
    """`classes` as a tuple. Raises `UsageError` unless they are pairs of text."""
    for entry in classes:
        if isinstance(entry, str) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            raise UsageError(f'Classes are pairs of a WordNet id, or "", and a name, such as ("", "cat"), not {entry!r}.')
    return tuple((wnid, name) for wnid, name in classes)
