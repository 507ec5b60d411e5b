"""The networks that can be named on the command line, and `load`, which makes one ready to be looked at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.networks.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.networks.classes import imagenet_classes
from deconvnet.networks.contrast import ContrastConstants
from deconvnet.networks.description import Description, check_options, describe, read_description
from deconvnet.networks.network import Network
from deconvnet.networks.onnx_file import OnnxNetwork, read_onnx
from deconvnet.networks.preprocessing import torchvision_preprocessing
from deconvnet.networks.published import PUBLISHED, download, recognise
from deconvnet.networks.weights import State, check_state, read_weights
from deconvnet.networks.zfnet import ZFNet, ZFNetOptions


@dataclass(frozen=True)
class TorchvisionOptions:
    """torchvision's `alexnet` comes in one shape."""

    classes: int = 1000


@dataclass(frozen=True)
class Architecture:
    """One kind of network."""

    summary: str
    options: Any
    """The options it has by default, a dataclass with at least `classes`."""
    build: Callable[[Any], nn.Module]
    crop: int
    classifier: str
    """Prefix of the names of the fully connected layers' tensors."""
    last: str
    """The tensor whose first dimension is the number of classes."""


def _layer_names(classes: int) -> list[str]:
    """What the layers of all these networks are called, in the order in which they run."""
    return ["conv1", "conv2", "conv3", "conv4", "conv5", *(["fc6", "fc7"] if classes else [])]


def _torchvision_alexnet(options: TorchvisionOptions) -> nn.Module:
    import torchvision  # takes as long to import as torch itself, and only this network needs it

    module: nn.Module = torchvision.models.alexnet(num_classes=options.classes or 1)
    if not options.classes:
        module.classifier = nn.Identity()
    return module


_ZFNET = Architecture(
    "Zeiler & Fergus' change of it (Fig. 3): dense, 7×7 first filters at stride 2",
    ZFNetOptions(),
    ZFNet,
    224,
    "fc",
    "fc8.weight",
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "alexnet": Architecture(
        'torchvision\'s AlexNet (Krizhevsky 2014, "one weird trick"): no groups, no normalisation',
        TorchvisionOptions(),
        _torchvision_alexnet,
        224,
        "classifier.",
        "classifier.6.weight",
    ),
    "alexnet2012": Architecture(
        "AlexNet as published in 2012: groups, contrast normalisation, 11×11 first filters at stride 4",
        AlexNetOptions(),
        AlexNet2012,
        227,
        "fc",
        "fc8.weight",
    ),
    "zfnet": _ZFNET,
    "zfnet512": replace(
        _ZFNET,
        summary="ZFNet with 512 maps in conv3, conv4 and conv5",
        options=ZFNetOptions(middle=(512, 512, 512)),
    ),
    "zfnet-wide": replace(
        _ZFNET,
        summary="ZFNet with 512, 1024 and 512 maps in conv3, conv4 and conv5 (Table 3)",
        options=ZFNetOptions(middle=(512, 1024, 512)),
    ),
}


def load(network: str, weights: str | Path | None = None, preprocessing: str | Path | None = None) -> Network:
    """Load a network by name, on the CPU.

    `network` is NAME or NAME:WEIGHTS with a name of `ARCHITECTURES`; `weights` may be given apart. WEIGHTS is a file, the
    name of published weights (`imagenet1k` for `alexnet`: downloaded once, checked), or `random` (untrained, seed 0).
    `preprocessing` is a TOML file that describes weights that do not describe themselves.

    Raises `UsageError` for an unknown name, `DeconvnetError` for weights that are missing, damaged, of another network, or
    that nothing is known about.
    """
    name, _, after = network.partition(":")
    if name not in ARCHITECTURES:
        raise UsageError(f"There is no network {name!r}; there are {', '.join(ARCHITECTURES)}.")
    if weights is not None and after:
        raise UsageError(f"Weights were given twice, as {after!r} and as {str(weights)!r}: give them once.")
    chosen = str(weights) if weights is not None else after
    downloads = {row.keyword: row for row in PUBLISHED if row.network == name and row.keyword}
    chosen = chosen or next(iter(downloads), "")
    if not chosen:
        raise UsageError(f"{name} has no weights of its own yet: pass {name}:PATH, or {name}:random for an untrained one.")
    if chosen == "random":
        if preprocessing:
            raise UsageError("An untrained network has its own preprocessing: leave --preprocessing out.")
        return _untrained(name)
    file = download(downloads[chosen]) if chosen in downloads else Path(chosen)
    if not (file.suffix or file.exists()):
        there = ", ".join([*downloads, "PATH", "random"])
        raise DeconvnetError(f"{name} has no weights {chosen!r}, and there is no file of that name: there are {there}.")
    return _from_file(name, file, Path(preprocessing) if preprocessing else None)


def describe_network(name: str) -> dict[str, Any]:
    """What `load` can make of a name: a summary, the weights it takes, and its layers (without allocating any)."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        module = architecture.build(architecture.options)
    names = _layer_names(architecture.options.classes)
    network = Network(module, torchvision_preprocessing(crop=architecture.crop), name=name, layer_names=names)
    return {
        "summary": architecture.summary,
        "weights": [*(row.keyword for row in PUBLISHED if row.network == name and row.keyword), "PATH", "random"],
        "input": architecture.crop,
        "layers": [
            {"name": layer.name, "units": layer.units, "map": list(layer.map_size), "field": list(layer.field.size)}
            for layer in network.layers.values()
        ],
    }


def _untrained(name: str) -> Network:
    architecture = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = architecture.build(architecture.options).eval()
    return Network(
        module,
        torchvision_preprocessing(crop=architecture.crop),
        name=name,
        weights="untrained, seed 0",
        layer_names=_layer_names(architecture.options.classes),
        classes=imagenet_classes(),
    )


def _from_file(name: str, file: Path, toml: Path | None) -> Network:
    published = recognise(file, PUBLISHED)
    if published is not None and published.network != name:
        raise DeconvnetError(f"{file} holds weights of {published.network}, not of {name}: pass {published.network}:{file}.")
    own = ARCHITECTURES[name].build in (AlexNet2012, ZFNet)
    onnx = read_onnx(file) if own and file.suffix == ".onnx" else None
    state, description = (onnx.state, None) if onnx else read_weights(file)
    if toml is not None:
        description = read_description(toml)
    elif published is not None:
        description = describe(published.description, published.file)
    if description is None:
        raise DeconvnetError(
            f"{file} does not say what preprocessing its weights expect, and guessing would make every picture wrong: "
            "describe it with --preprocessing FILE.toml (docs/file-formats.md has an example)."
        )
    theirs = ARCHITECTURES.get(description.network)
    if description.network and (theirs is None or theirs.build is not ARCHITECTURES[name].build):
        raise DeconvnetError(f"{file} holds weights of {description.network}: pass {description.network}:{file}.")
    classes = _class_count(name, state)
    if classes and description.classes and len(description.classes) != classes:
        raise DeconvnetError(f"{file} names {len(description.classes)} classes, but its network has {classes} outputs.")
    loaded = Network(
        _module(name, classes, state, description, file, onnx),
        description.preprocessing,
        name=name,
        weights=description.weights or file.name,
        layer_names=_layer_names(classes),
        classes=description.classes if classes else None,
        classifies=classes > 0,
    )
    try:
        _ = loaded.layers  # one pass over zeros: does this network take inputs of this size?
    except RuntimeError as error:
        size = description.preprocessing.crop
        reason = str(error).splitlines()[0]
        raise DeconvnetError(f"{name} cannot be run on {size}×{size} pixels as {file} is described ({reason}).") from None
    return loaded


def _class_count(name: str, state: State) -> int:
    """How many classes the weights tell apart; 0 for a trunk, which has no fully connected layers."""
    architecture = ARCHITECTURES[name]
    if architecture.last in state:
        return state[architecture.last].shape[0]
    trunk = not any(tensor.startswith(architecture.classifier) for tensor in state)
    return 0 if trunk else int(architecture.options.classes)


def _module(
    name: str, classes: int, state: State, description: Description, file: Path, onnx: OnnxNetwork | None
) -> nn.Module:
    options, source = ARCHITECTURES[name].options, description.source
    entries = check_options(options, description.options, source)
    if "contrast" in entries:
        entries["contrast"] = ContrastConstants(**check_options(ContrastConstants(), entries["contrast"], source))
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        module = ARCHITECTURES[name].build(replace(options, **{**entries, "classes": classes}))
    if onnx:
        onnx.check(module, description.preprocessing.crop, str(file), name)
    expected = module.state_dict()
    check_state(state, expected, str(file), name)
    state = {tensor: value.to(torch.float32) for tensor, value in state.items()}
    if description.bgr:
        first = next(iter(expected))
        state[first] = state[first].flip(1)
    module.load_state_dict(state, assign=True)
    return module.eval()
