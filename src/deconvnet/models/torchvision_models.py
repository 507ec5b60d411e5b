"""torchvision's classification models, each under the name `torchvision:NAME`, with the weights that torchvision publishes.

torchvision takes as long to import as torch itself, so it is imported inside the functions that need it.
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
from deconvnet.models.pretrained import PretrainedFile
from deconvnet.models.registry_entry import Architecture, ModelOptions, build_empty
from deconvnet.models.weights import StateDict
from deconvnet.models.weights_metadata import parse_metadata

PREFIX = "torchvision:"

_INCEPTION_MODELS = ("googlenet", "inception_v3")
_AUXILIARY_PREFIXES = ("aux1.", "aux2.", "AuxLogits.")

#: Older files of DenseNets, including torchvision's, have `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class InceptionOptions(ModelOptions):
    """Of GoogLeNet and Inception v3, whose weights were ported from another framework."""

    transform_input: bool = False
    """Does the module first turn torchvision's usual normalisation into theirs (mean 0.5, std 0.5)?"""


def model_names() -> list[str]:
    """Names of torchvision's classification models."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def build_model(model: str, options: ModelOptions) -> nn.Module:
    """The untrained module, without the auxiliary classifiers, which only training uses."""
    from torchvision.models import get_model

    arguments: dict[str, Any] = {}
    if isinstance(options, InceptionOptions):
        arguments = {"transform_input": options.transform_input, "aux_logits": False, "init_weights": True}
    module: nn.Module = get_model(model, weights=None, num_classes=options.classes or 1, **arguments)
    if not options.classes:
        setattr(module, _last_weight(module).partition(".")[0], nn.Identity())
    return module


@cache
def architecture(model: str) -> Architecture:
    """The architecture of a model. Raises `UsageError`, which lists similar names, if there is no such model."""
    names = model_names()
    if model not in names:
        similar = get_close_matches(model.lower(), names, n=5, cutoff=0.4)
        hint = f"did you mean {', '.join(similar)}?" if similar else f"there are {', '.join(names)}."
        raise UsageError(f"torchvision has no classification model {model!r}: {hint}")
    options = InceptionOptions() if model in _INCEPTION_MODELS else ModelOptions()
    last_weight = _last_weight(build_empty(partial(build_model, model), options))
    default = next(row for row in pretrained_files() if row.network == PREFIX + model)
    return Architecture(
        summary=f"{model} of torchvision",
        options=options,
        build=partial(build_model, model),
        preprocessing=parse_metadata(default.metadata, default.file).preprocessing,
        classifier_prefix=last_weight.partition(".")[0] + ".",
        last_weight=last_weight,
        adapt_state=adapt_state,
        required_options=("transform_input",) if model in _INCEPTION_MODELS else (),
    )


@cache
def pretrained_files() -> tuple[PretrainedFile, ...]:
    """The weights that torchvision publishes for its classification models, each model's default first."""
    from torchvision.models import get_model_weights

    files = []
    for model in model_names():
        entries = get_model_weights(model)
        default_first = sorted(entries, key=lambda entry: entry is not entries.DEFAULT)
        files += [_pretrained_file(model, entry) for entry in default_first]
    return tuple(files)


def _pretrained_file(model: str, entry: Any) -> PretrainedFile:
    file = entry.url.rpartition("/")[2]
    return PretrainedFile(
        network=PREFIX + model,
        keyword=entry.name,
        file=file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],  # by torch.hub's convention, the name has its first digits
        url=entry.url,
        metadata=_metadata(model, entry),
    )


def _metadata(model: str, entry: Any) -> Mapping[str, Any]:
    transforms, names = entry.transforms(), entry.meta["categories"]
    (resize,), (crop,) = transforms.resize_size, transforms.crop_size
    entries = {
        "weights": entry.name,
        "resize": resize,
        "crop": crop,
        "interpolation": transforms.interpolation.value,
        "channels": "RGB",
        "scale": 1,
        "mean": list(transforms.mean),
        "std": list(transforms.std),
    }
    if names is None:  # the classifier in the file is untrained
        return entries | {"options": {"classes": 0}}
    imagenet = list(names) == [name for _, name in imagenet_classes()]
    entries["classes"] = "imagenet1k" if imagenet else [("", name) for name in names]
    if model in _INCEPTION_MODELS:
        entries["options"] = {"transform_input": True}  # as torchvision sets it when it loads them
    return entries


def weights_of(network: str) -> dict[str, PretrainedFile]:
    """The weights of `torchvision:MODEL`, by their keywords, the default first."""
    return {file.keyword: file for file in pretrained_files() if file.network == network}


def default_keyword(network: str) -> str:
    """The keyword of torchvision's default weights of `torchvision:MODEL`."""
    return next(iter(weights_of(network)), "")


def _last_weight(module: nn.Module) -> str:
    """The tensor whose first dimension is the number of classes."""
    return [name for name in module.state_dict() if name.endswith(".weight")][-1]


def adapt_state(state: StateDict) -> StateDict:
    """`state` changed as torchvision's loading does: new names, no auxiliary classifiers, missing batch counts added."""
    kept = {name: value for name, value in state.items() if not name.startswith(_AUXILIARY_PREFIXES)}
    adapted = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in kept.items()}
    for name in [name for name in adapted if name.endswith("running_var")]:  # files older than PyTorch 0.4.1
        adapted.setdefault(name.removesuffix("running_var") + "num_batches_tracked", torch.tensor(0))
    return adapted
