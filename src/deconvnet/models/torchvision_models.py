"""torchvision's classification models, each under the name `torchvision:NAME`, with the weights that torchvision publishes.

torchvision takes as long to import as torch itself, so it is imported only by the functions that need it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from deconvnet.data.image_set import imagenet_classes
from deconvnet.errors import UsageError
from deconvnet.models.architecture import Architecture, build_empty
from deconvnet.models.pretrained import PretrainedFile
from deconvnet.models.weights import State
from deconvnet.models.weights_metadata import describe

PREFIX = "torchvision:"

_INCEPTIONS = ("googlenet", "inception_v3")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

#: Older files of DenseNets, torchvision's own among them, have `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class TorchvisionOptions:
    """torchvision's models come in one shape."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the classifier: a trunk, good for looking."""


@dataclass(frozen=True)
class InceptionOptions(TorchvisionOptions):
    """GoogLeNet and Inception v3 have weights that were ported from elsewhere."""

    transform_input: bool = False
    """The module turns torchvision's usual normalisation into theirs (mean 0.5, std 0.5) before it begins."""


def model_names() -> list[str]:
    """Names of torchvision's classification models."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def build(model: str, options: TorchvisionOptions) -> nn.Module:
    """The module, untrained; without the auxiliary classifiers, which only training uses."""
    from torchvision.models import get_model

    more: dict[str, Any] = {}
    if isinstance(options, InceptionOptions):
        more = {"transform_input": options.transform_input, "aux_logits": False, "init_weights": True}
    module: nn.Module = get_model(model, weights=None, num_classes=options.classes or 1, **more)
    if not options.classes:
        setattr(module, _last_tensor(module).partition(".")[0], nn.Identity())
    return module


@cache
def architecture(model: str) -> Architecture:
    """What `load` has to know of a model. Raises `UsageError`, which lists similar names, if there is no such model."""
    names = model_names()
    if model not in names:
        similar = get_close_matches(model.lower(), names, n=5, cutoff=0.4)
        there = f"did you mean {', '.join(similar)}?" if similar else f"there are {', '.join(names)}."
        raise UsageError(f"torchvision has no classification model {model!r}: {there}")
    options = InceptionOptions() if model in _INCEPTIONS else TorchvisionOptions()
    last = _last_tensor(build_empty(partial(build, model), options))
    default = next(row for row in published() if row.network == PREFIX + model)
    return Architecture(
        summary=f"{model} of torchvision",
        options=options,
        build=partial(build, model),
        preprocessing=describe(default.description, default.file).preprocessing,
        classifier=last.partition(".")[0] + ".",
        last=last,
        adapt=_adapt,
        stated=("transform_input",) if model in _INCEPTIONS else (),
    )


@cache
def published() -> tuple[PretrainedFile, ...]:
    """The weights that torchvision publishes of its classification models, each model's default first."""
    from torchvision.models import get_model_weights

    rows = []
    for model in model_names():
        entries = get_model_weights(model)
        rows += [_row(model, entry) for entry in sorted(entries, key=lambda entry: entry is not entries.DEFAULT)]
    return tuple(rows)


def _row(model: str, entry: Any) -> PretrainedFile:
    file = entry.url.rpartition("/")[2]
    return PretrainedFile(
        network=PREFIX + model,
        keyword=entry.name,
        file=file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],  # torch.hub's way: its first digits stand in the file's name
        url=entry.url,
        description=_description(model, entry),
    )


def _description(model: str, entry: Any) -> Mapping[str, Any]:
    view, names = entry.transforms(), entry.meta["categories"]
    (resize,), (crop,) = view.resize_size, view.crop_size
    entries = {
        "weights": entry.name,
        "resize": resize,
        "crop": crop,
        "interpolation": view.interpolation.value,
        "channels": "RGB",
        "scale": 1,
        "mean": list(view.mean),
        "std": list(view.std),
    }
    if names is None:  # the classifier in the file holds nothing
        return entries | {"options": {"classes": 0}}
    imagenet = list(names) == [name for _, name in imagenet_classes()]
    entries["classes"] = "imagenet1k" if imagenet else [("", name) for name in names]
    if model in _INCEPTIONS:
        entries["options"] = {"transform_input": True}  # as torchvision sets it when it loads them
    return entries


def _last_tensor(module: nn.Module) -> str:
    """The tensor whose first dimension is the number of classes."""
    return [name for name in module.state_dict() if name.endswith(".weight")][-1]


def _adapt(state: State) -> State:
    """What torchvision's own loading does to files: old names, no auxiliary classifiers, batch counts that are missing."""
    adapted = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items() if not name.startswith(_AUXILIARY)}
    for name in [name for name in adapted if name.endswith("running_var")]:  # files older than PyTorch 0.4.1
        adapted.setdefault(name.removesuffix("running_var") + "num_batches_tracked", torch.tensor(0))
    return adapted
