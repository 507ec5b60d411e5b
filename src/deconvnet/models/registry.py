"""The networks that can be named on the command line, and `load`, which makes one ready to be looked at."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deconvnet.data.image_set import imagenet_classes
from deconvnet.data.transforms import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import torchvision_models
from deconvnet.models.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.models.architecture import Architecture, build_empty
from deconvnet.models.bundled import BUNDLED, bundled_weights
from deconvnet.models.network import CannotRun, Network
from deconvnet.models.onnx_weights import OnnxNetwork, read_onnx
from deconvnet.models.pretrained import (
    PRETRAINED,
    PretrainedFile,
    download,
    in_cache,
    recognise,
)
from deconvnet.models.torchvision_models import PREFIX, TorchvisionOptions, build
from deconvnet.models.user_file import load_function, split
from deconvnet.models.weights import (
    SUFFIXES,
    State,
    check_state,
    read_weights,
)
from deconvnet.models.weights_metadata import (
    Description,
    check_options,
    describe,
    read_metadata,
)
from deconvnet.models.zfnet import ZFNet, ZFNetOptions


def _layer_names(architecture: Architecture, classes: int) -> list[str] | None:
    """What layers are called, in the order in which they run; None where that is left to the module or its paths."""
    if not architecture.paper_names:
        return None
    return ["conv1", "conv2", "conv3", "conv4", "conv5", *(["fc6", "fc7"] if classes else [])]


_ZFNET = Architecture(
    "Zeiler & Fergus' change of it (Fig. 3): dense, 7×7 first filters at stride 2",
    ZFNetOptions(),
    ZFNet,
    torchvision_preprocessing(),
    "fc",
    "fc8.weight",
)

#: Networks by name: those that `load` knows beside torchvision's.
ARCHITECTURES: Mapping[str, Architecture] = {
    "alexnet": Architecture(
        'torchvision\'s AlexNet (Krizhevsky 2014, "one weird trick"): no groups, no normalisation',
        TorchvisionOptions(),
        partial(build, "alexnet"),
        torchvision_preprocessing(),
        "classifier.",
        "classifier.6.weight",
        paper_names=True,
    ),
    "alexnet2012": Architecture(
        "AlexNet as published in 2012: groups, contrast normalisation, 11×11 first filters at stride 4",
        AlexNetOptions(),
        AlexNet2012,
        torchvision_preprocessing(crop=227),
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

    `network` is NAME or NAME:WEIGHTS with a name of `ARCHITECTURES` or `torchvision:MODEL` for any of torchvision's
    classification models; `weights` may be given apart. WEIGHTS is a file, `imagenette` (they come with `alexnet2012` and
    `zfnet`), the name of published weights (`imagenet1k` for `alexnet`, `IMAGENET1K_V1` … for torchvision's: downloaded
    once, checked), or `random` (untrained, seed 0). Without WEIGHTS it is the first of these that the network has.
    `preprocessing` is a TOML file that describes weights that do not describe themselves.

    `FILE.py:function` is a network of your own: a function without arguments that returns a `Network`. The file is run.

    Raises `UsageError` for an unknown name, `DeconvnetError` for weights that are missing, damaged, of another network, or
    that nothing is known about.
    """
    own = _own_file(network)
    if own:
        if weights is not None or preprocessing is not None:
            raise UsageError(f"{network} loads its own weights: give neither weights nor preprocessing beside it.")
        net = load_function(*own)
        net.address = f"{os.path.abspath(own[0])}:{own[1]}"
        return net
    name, after = _split(network)
    architecture = _architecture(name)
    if weights is not None and after:
        raise UsageError(f"Weights were given twice, as {after!r} and as {str(weights)!r}: give them once.")
    chosen = str(weights) if weights is not None else after
    downloads = _downloads(name)
    chosen = chosen or _default(name, downloads)
    if not chosen:
        there = ", ".join(f"{name}:{weights}" for weights in [*downloads, "PATH"])
        raise UsageError(f"{name} has no weights of its own: pass {there}, or {name}:random for an untrained one.")
    if chosen == "random":
        if preprocessing:
            raise UsageError("An untrained network has its own preprocessing: leave --preprocessing out.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = untrained(name)
        net.weights, net.address = "untrained, seed 0", f"{name}:random"
        return net
    address = f"{name}:{chosen}"
    if chosen in downloads:
        _ = _empty(name, architecture).layers  # refuses a network that never rectifies before it is downloaded
        file = download(downloads[chosen])
    else:
        found = bundled_weights(name, chosen)
        file = found or Path(chosen)
        address = address if found else f"{name}:{os.path.abspath(file)}"
        if not (file.suffix or file.exists()):
            there = ", ".join([*_keywords(name), "PATH", "random"])
            raise DeconvnetError(f"{name} has no weights {chosen!r}, and there is no file of that name: there are {there}.")
    net = _from_file(name, file, Path(preprocessing) if preprocessing else None)
    net.address = address
    return net


def check_runs_no_code(address: str) -> None:
    """Raise `DeconvnetError` if `load(address)` would run a program or use the network connection, or finds no weights.

    What it does not refuse may be loaded unasked, even if a stranger wrote the address.
    """
    own = _own_file(address)
    if own:
        raise DeconvnetError(f"Its network is made by the program {own[0]}, which is not run unless you ask for it.")
    name, chosen = _split(address)
    _architecture(name)  # raises if there is none
    downloads = _downloads(name)
    chosen = chosen or _default(name, downloads)
    if chosen == "random" and name not in ARCHITECTURES:  # torchvision's may be very large
        raise DeconvnetError(f"Its network, {address}, is not built unless you ask for it.")
    if chosen == "random" or bundled_weights(name, chosen):
        return
    if chosen in downloads:
        if not in_cache(downloads[chosen]).is_file():
            raise DeconvnetError(f"Its weights, {address}, have not been downloaded to this machine yet.")
        return
    # A path with two slashes first is a place on another machine, on Windows.
    if not os.path.isabs(chosen) or chosen[:2].strip("/\\") == "" or not _is_weights(chosen):
        raise DeconvnetError(f"Its weights, {chosen or address}, are not on this machine.")


def describe_network(network: str, preprocessing: str | Path | None = None) -> dict[str, Any]:
    """What `load` can make of a name: a summary, the weights that it takes, and its layers.

    Of NAME:FILE, NAME:imagenette and `FILE.py:function` the layers are those of the network that is loaded; of a NAME alone,
    and of weights that are to be downloaded, those of the architecture as published. Raises what `load` raises.
    """
    own = _own_file(network)
    if preprocessing is not None and (own or _split(network)[1] in ("", "random")):
        raise UsageError("A description is of weights: give it with NAME:FILE.")
    if own:
        name, found, summary, weights = network, load_function(*own), f"a network of {own[0]}", []
    else:
        name, chosen = _split(network)
        architecture = _architecture(name)
        summary, weights = architecture.summary, [*_keywords(name), "PATH", "random"]
        if chosen in ("", "random", *_downloads(name)):
            found = _empty(name, architecture)
        else:
            found, name, weights = load(network, preprocessing=preprocessing), network, []
    return {
        "name": name,
        "summary": summary,
        "weights": weights,
        "input": found.preprocessing.crop,
        "layers": [
            {"name": layer.name, "units": layer.units, "map": list(layer.map_size), "field": list(layer.field.size)}
            for layer in found.layers.values()
        ],
    }


def _keywords(name: str) -> list[str]:
    """The names of a network's weights: those that come with the package first, then those to download."""
    return [*([BUNDLED[name]] if name in BUNDLED else []), *_downloads(name)]


def _downloads(name: str) -> dict[str, PretrainedFile]:
    return {row.keyword: row for row in _rows(name) if row.network == name and row.keyword}


def _default(name: str, downloads: Mapping[str, PretrainedFile]) -> str:
    """The weights of a network for which none are named; empty if there are none."""
    # torchvision's networks come with torchvision's weights; whatever else is fetched has to be asked for.
    fetched = next(iter(downloads), "") if name == "alexnet" or name.startswith(PREFIX) else ""
    return BUNDLED.get(name, fetched)


def _is_weights(path: str) -> bool:
    """Whether there is a file that may be one of weights, and may be read."""
    try:
        return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        return False


def _own_file(network: str) -> tuple[Path, str] | None:
    return None if network.startswith(PREFIX) or network.partition(":")[0] in ARCHITECTURES else split(network)


def _split(network: str) -> tuple[str, str]:
    """NAME and WEIGHTS (or nothing) of NAME:WEIGHTS."""
    prefix = PREFIX if network.startswith(PREFIX) else ""
    name, _, weights = network.removeprefix(prefix).partition(":")
    return prefix + name, weights


def _architecture(name: str) -> Architecture:
    if name.startswith(PREFIX):
        return torchvision_models.architecture(name.removeprefix(PREFIX))
    if name not in ARCHITECTURES:
        raise UsageError(
            f"There is no network {name!r}; there are {', '.join(ARCHITECTURES)}, {PREFIX}MODEL and FILE.py:FUNCTION."
        )
    return ARCHITECTURES[name]


def _rows(name: str) -> tuple[PretrainedFile, ...]:
    """The published weights among which files for a network are recognised."""
    return torchvision_models.published() if name.startswith(PREFIX) else PRETRAINED


def _empty(name: str, architecture: Architecture) -> Network:
    """The network without memory for its weights: good for its layers."""
    module = build_empty(architecture.build, architecture.options)
    names = _layer_names(architecture, architecture.options.classes)
    return Network(module, architecture.preprocessing, name=name, layer_names=names)


def untrained(name: str, options: Mapping[str, Any] | None = None) -> Network:
    """A network with the weights that its module's constructor draws, and with `options` that differ from its defaults.

    Raises `UsageError` for an unknown name, `DeconvnetError` for options that it does not have.
    """
    architecture = _architecture(name)
    chosen = _options(architecture, options or {}, name)
    module, classes = architecture.build(chosen).eval(), int(chosen.classes)
    return Network(
        module,
        architecture.preprocessing,
        name=name,
        weights="untrained",
        layer_names=_layer_names(architecture, classes),
        classes=imagenet_classes() if classes == 1000 else None,
    )


def _from_file(name: str, file: Path, toml: Path | None) -> Network:
    architecture = _architecture(name)
    published = recognise(file, _rows(name))
    if published is not None and published.network != name:
        raise DeconvnetError(f"{file} holds weights of {published.network}, not of {name}: pass {published.network}:{file}.")
    own = architecture.build in (AlexNet2012, ZFNet)
    onnx = read_onnx(file) if own and file.suffix.lower() == ".onnx" else None
    state, description = (onnx.state, None) if onnx else read_weights(file)
    if toml is not None:
        description = read_metadata(toml)
        if published is not None and not describe(published.description, published.file).agrees(description):
            raise DeconvnetError(
                f"{toml} contradicts what is known of {published.file}, which {file} is (channels, scale, mean or std): "
                "leave --preprocessing out."
            )
    elif published is not None:
        description = describe(published.description, published.file)
    if description is None:
        raise DeconvnetError(
            f"{file} does not say what preprocessing its weights expect, and guessing would make every picture wrong: "
            "describe it with --preprocessing FILE.toml (docs/file-formats.md has an example)."
        )
    theirs = ARCHITECTURES.get(description.network)
    if description.network not in ("", name) and (theirs is None or theirs.build is not architecture.build):
        raise DeconvnetError(f"{file} holds weights of {description.network}: pass {description.network}:{file}.")
    unsaid = [option for option in architecture.stated if option not in description.options]
    if unsaid:
        raise DeconvnetError(
            f"{toml or file} does not say whether {file} was trained with {unsaid[0]}: write {unsaid[0]} = true (as "
            "torchvision has it in a network that it loads trained) or false under [options]."
        )
    state = architecture.adapt(state)
    if description.options.get("classes") == 0:  # its classifier holds nothing
        state = {tensor: value for tensor, value in state.items() if not tensor.startswith(architecture.classifier)}
    classes = _class_count(name, state)
    if classes and description.classes and len(description.classes) != classes:
        raise DeconvnetError(f"{file} names {len(description.classes)} classes, but its network has {classes} outputs.")
    loaded = Network(
        _module(name, classes, state, description, file, onnx),
        description.preprocessing,
        name=name,
        weights=description.weights or file.name,
        layer_names=_layer_names(architecture, classes),
        classes=description.classes if classes else None,
        classifies=classes > 0,
    )
    try:
        _ = loaded.layers  # one pass over zeros: does this network take inputs of this size?
    except CannotRun as error:
        size = description.preprocessing.crop
        reason = str(error.__cause__).splitlines()[0]
        raise DeconvnetError(f"{name} cannot be run on {size}×{size} pixels as {file} is described ({reason}).") from None
    return loaded


def _class_count(name: str, state: State) -> int:
    """How many classes the weights tell apart; 0 for a trunk, which has no fully connected layers."""
    architecture = _architecture(name)
    if architecture.last in state and state[architecture.last].dim():
        return state[architecture.last].shape[0]
    trunk = not any(tensor.startswith(architecture.classifier) for tensor in state)
    return 0 if trunk else int(architecture.options.classes)


def _module(
    name: str, classes: int, state: State, description: Description, file: Path, onnx: OnnxNetwork | None
) -> nn.Module:
    architecture = _architecture(name)
    options = _options(architecture, {**description.options, "classes": classes}, description.source)
    if description.bgr and description.options.get("transform_input"):
        raise DeconvnetError(f"{file} is said to expect BGR and to transform its input, which is defined for RGB only.")
    module = build_empty(architecture.build, options)
    if onnx:
        onnx.check(module, description.preprocessing.crop, str(file), name)
    expected = module.state_dict()
    check_state(state, expected, str(file), name)
    for tensor, value in state.items():  # into the module's own dictionary, which knows the versions of its parts
        expected[tensor] = value.to(torch.float32) if value.is_floating_point() else value
    if description.bgr:
        first = next(iter(expected))
        expected[first] = expected[first].flip(1)
    module.load_state_dict(expected, assign=True)
    return module.eval()


def _options(architecture: Architecture, entries: Mapping[str, Any], source: str) -> Any:
    """An architecture's options with other values. Raises `DeconvnetError` for those that it does not have."""
    checked = check_options(architecture.options, entries, source)
    if "contrast" in checked:
        try:
            checked["contrast"] = LRNConstants(**check_options(LRNConstants(), checked["contrast"], source))
        except UsageError as error:
            raise DeconvnetError(f"{source}: {error}") from None
    return replace(architecture.options, **checked)
