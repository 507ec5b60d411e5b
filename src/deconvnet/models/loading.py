"""`load`: from a name, or a name and a file of weights, to a `Network`."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deconvnet.errors import DeconvnetError, ForwardError, UsageError
from deconvnet.models.alexnet import AlexNet2012
from deconvnet.models.bundled import bundled_weights
from deconvnet.models.hub_file import HubFile
from deconvnet.models.network import Network
from deconvnet.models.onnx_weights import OnnxNetwork, read_onnx
from deconvnet.models.pretrained import PretrainedFile, cache_path, download, identify
from deconvnet.models.registry import (
    ARCHITECTURES,
    build_meta_network,
    build_untrained,
    default_keyword,
    downloads,
    find_architecture,
    layer_names,
    parse_options,
    pretrained_files,
    split_spec,
    user_function,
    weights_keywords,
)
from deconvnet.models.registry_entry import Architecture, build_empty
from deconvnet.models.user_file import load_user_network
from deconvnet.models.weights import WEIGHTS_SUFFIXES, StateDict, check_state_dict, read_weights
from deconvnet.models.weights_metadata import WeightsMetadata, parse_metadata, read_metadata
from deconvnet.models.zfnet import ZFNet


def load(network: str, weights: str | Path | None = None, preprocessing: str | Path | None = None) -> Network:
    """Load a network by name, on the CPU.

    `network` is NAME or NAME:WEIGHTS, where NAME is a name of `ARCHITECTURES`, `torchvision:MODEL` for any of torchvision's
    classification models, or `timm:MODEL` for any of timm's. WEIGHTS, which `weights` may give instead, is a file,
    `imagenette` (bundled for `alexnet2012` and `zfnet`), the keyword of published weights (`imagenet1k` for `alexnet`,
    `IMAGENET1K_V1` … for torchvision's, a tag such as `a1_in1k` for timm's: downloaded once), or `random` (untrained, seed
    0). Without WEIGHTS it is the first of these that the network has; one of timm's needs them. `preprocessing` is a TOML
    file with metadata, for weights whose file has none; timm's have timm's own preprocessing.

    `FILE.py:function` is your own network: a function without arguments that returns a `Network`. The file is run.

    Raises `UsageError` for an unknown name, `DeconvnetError` for weights that are missing, damaged or for another network,
    or whose preprocessing is unknown.
    """
    function = user_function(network)
    if function:
        if weights is not None or preprocessing is not None:
            raise UsageError(f"{network} loads its own weights: give neither weights nor preprocessing beside it.")
        net = load_user_network(*function)
        net.address = f"{os.path.abspath(function[0])}:{function[1]}"
        return net
    name, keyword = split_spec(network)
    find_architecture(name)  # raises if there is none
    if weights is not None and keyword:
        raise UsageError(f"Weights were given twice, as {keyword!r} and as {str(weights)!r}: give them once.")
    chosen = (str(weights) if weights is not None else keyword) or default_keyword(name)
    if not chosen:
        choices = ", ".join(f"{name}:{weights}" for weights in [*downloads(name), "PATH"])
        raise UsageError(f"{name} has no weights of its own: pass {choices}, or {name}:random for an untrained one.")
    if chosen == "random":
        if preprocessing:
            raise UsageError("An untrained network has its own preprocessing: leave --preprocessing out.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed GPUs too
            net = build_untrained(name)
        net.weights, net.address = "untrained, seed 0", f"{name}:random"
        return net
    address = f"{name}:{chosen}"
    hub_file = None
    if chosen in downloads(name):
        _ = build_meta_network(name).layers  # refuses a network without a ReLU before anything is downloaded
        published = downloads(name)[chosen]
        if isinstance(published, HubFile):
            hub_file, file = published, published.download()
        else:
            file = download(published)
    else:
        bundled = bundled_weights(name, chosen)
        file = bundled or Path(chosen)
        address = address if bundled else f"{name}:{os.path.abspath(file)}"
        if not (file.suffix or file.exists()):
            choices = ", ".join([*weights_keywords(name), "PATH", "random"])
            raise DeconvnetError(
                f"{name} has no weights {chosen!r}, and there is no file of that name: there are {choices}."
            )
    net = _load_file(name, file, Path(preprocessing) if preprocessing else None, hub_file)
    net.address = address
    return net


def check_runs_no_code(address: str) -> None:
    """Raise `DeconvnetError` if `load(address)` would run a program or use the network connection, or finds no weights.

    What passes may be loaded without asking, even if a stranger wrote the address.
    """
    function = user_function(address)
    if function:
        raise DeconvnetError(f"Its network is made by the program {function[0]}, which is not run unless you ask for it.")
    name, keyword = split_spec(address)
    find_architecture(name)  # raises if there is none
    chosen = keyword or default_keyword(name)
    if chosen == "random" and name not in ARCHITECTURES:  # a library's may be very large
        raise DeconvnetError(f"Its network, {address}, is not built unless you ask for it.")
    if chosen == "random" or bundled_weights(name, chosen):
        return
    if chosen in downloads(name):
        published = downloads(name)[chosen]
        if not (published.cached() if isinstance(published, HubFile) else cache_path(published).is_file()):
            raise DeconvnetError(f"Its weights, {address}, have not been downloaded to this machine yet.")
        return
    # On Windows, a path that begins with two slashes is on another machine.
    if not os.path.isabs(chosen) or chosen[:2].strip("/\\") == "" or not _is_weights_file(chosen):
        raise DeconvnetError(f"Its weights, {chosen or address}, are not on this machine.")


def describe_network(network: str, preprocessing: str | Path | None = None) -> dict[str, Any]:
    """What `load` can make of a name: a summary, the weights that exist for it, the crop of its input, and its layers.

    If it takes no photos, its input has a shape in place of a crop.

    For NAME:FILE, NAME:imagenette and `FILE.py:function` the layers are those of the loaded network; for a NAME alone, and
    for weights that have to be downloaded, those of the architecture as published. Raises what `load` raises.
    """
    function = user_function(network)
    if preprocessing is not None and (function or split_spec(network)[1] in ("", "random")):
        raise UsageError("A description is of weights: give it with NAME:FILE.")
    if function:
        name, net, summary, weights = network, load_user_network(*function), f"a network of {function[0]}", []
    else:
        name, keyword = split_spec(network)
        summary, weights = find_architecture(name).summary, [*weights_keywords(name), "PATH", "random"]
        if keyword in ("", "random", *downloads(name)):
            net = build_meta_network(name)
        else:
            net, name, weights = load(network, preprocessing=preprocessing), network, []
    return {
        "name": name,
        "summary": summary,
        "weights": weights,
        "input": net.preprocessing.crop if net.input_space.reads_photos else list(net.input_shape),
        "layers": [
            {
                "name": layer.name,
                "units": layer.units,
                "map": list(layer.map_size),
                "field": list(layer.field.size),
                **({} if layer.field.status == "exact" else {"field_status": layer.field.status.value}),
            }
            for layer in net.layers.values()
        ],
    }


def _is_weights_file(path: str) -> bool:
    """Whether there is a readable file of that path whose suffix is one of weights."""
    try:
        return Path(path).suffix.lower() in WEIGHTS_SUFFIXES and Path(path).is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        return False


# Networks with weights from a file


def _load_file(name: str, file: Path, toml: Path | None, hub_file: HubFile | None = None) -> Network:
    """The network `name` with the weights in `file`, which is the downloaded `hub_file`, if there is one; `toml` is a file
    with metadata that takes precedence.
    """
    architecture = find_architecture(name)
    pretrained = hub_file or identify(file, pretrained_files(name))
    if pretrained is not None and pretrained.network != name:
        raise DeconvnetError(
            f"{file} holds weights of {pretrained.network}, not of {name}: pass {pretrained.network}:{file}."
        )
    reads_onnx = architecture.build in (AlexNet2012, ZFNet)
    onnx = read_onnx(file) if reads_onnx and file.suffix.lower() == ".onnx" else None
    state, metadata = (onnx.state, None) if onnx else read_weights(file)
    state = architecture.adapt_state(state)
    if (
        metadata is None
        and toml is None
        and (entries := architecture.describe_file(file, _count_classes(architecture, state)))
    ):
        metadata = parse_metadata(entries, str(file))
    metadata = _choose_metadata(file, metadata, toml, pretrained)
    _check_metadata(metadata, name, architecture, file, toml)
    if metadata.options.get("classes") == 0:  # the classifier in the file is untrained
        state = {key: value for key, value in state.items() if not key.startswith(architecture.classifier_prefix)}
    classes = _count_classes(architecture, state)
    if classes and metadata.classes and len(metadata.classes) != classes:
        raise DeconvnetError(f"{file} names {len(metadata.classes)} classes, but its network has {classes} outputs.")
    network = Network(
        _build_with_weights(name, classes, state, metadata, file, onnx),
        metadata.preprocessing,
        name=name,
        weights=metadata.weights or file.name,
        layer_names=layer_names(architecture, classes),
        classes=metadata.classes if classes else None,
        classifies=classes > 0,
    )
    try:
        _ = network.layers  # one pass over zeros: does this network take inputs of this size?
    except ForwardError as error:
        size = metadata.preprocessing.crop
        reason = str(error.__cause__).splitlines()[0]
        raise DeconvnetError(f"{name} cannot be run on {size}×{size} pixels as {file} is described ({reason}).") from None
    return network


def _choose_metadata(
    file: Path,
    embedded: WeightsMetadata | None,
    toml: Path | None,
    pretrained: PretrainedFile | HubFile | None,
) -> WeightsMetadata:
    """The metadata in `toml`, or else of the published file that `file` is, or else that embedded in it.

    Raises `DeconvnetError` if there is none, or if `toml` contradicts what is known about the published file.
    """
    known = parse_metadata(pretrained.metadata, pretrained.file) if pretrained is not None else None
    if toml is not None:
        metadata = read_metadata(toml)
        if known is not None and not known.same_inputs(metadata):
            raise DeconvnetError(
                f"{toml} contradicts what is known of {known.source}, which {file} is (channels, scale, mean or std): "
                "leave --preprocessing out."
            )
        return metadata
    chosen = known or embedded
    if chosen is None:
        raise DeconvnetError(
            f"{file} does not say what preprocessing its weights expect, and guessing would make every picture wrong: "
            "describe it with --preprocessing FILE.toml (docs/file-formats.md has an example)."
        )
    return chosen


def _check_metadata(metadata: WeightsMetadata, name: str, architecture: Architecture, file: Path, toml: Path | None) -> None:
    """Raise `DeconvnetError` if the weights are for another architecture, or a required option is not stated."""
    stated = ARCHITECTURES.get(metadata.network)
    if metadata.network not in ("", name) and (stated is None or stated.build is not architecture.build):
        raise DeconvnetError(f"{file} holds weights of {metadata.network}: pass {metadata.network}:{file}.")
    missing = [option for option in architecture.required_options if option not in metadata.options]
    if missing:
        raise DeconvnetError(
            f"{toml or file} does not say whether {file} was trained with {missing[0]}: write {missing[0]} = true (as "
            "torchvision has it in a network that it loads trained) or false under [options]."
        )


def _count_classes(architecture: Architecture, state: StateDict) -> int:
    """The number of classes that the weights distinguish; 0 for a trunk, which has no fully connected layers."""
    last_weight = state.get(architecture.last_weight)
    if last_weight is not None and last_weight.dim():
        return last_weight.shape[0]
    is_trunk = not any(name.startswith(architecture.classifier_prefix) for name in state)
    return 0 if is_trunk else int(architecture.options.classes)


def _build_with_weights(
    name: str, classes: int, state: StateDict, metadata: WeightsMetadata, file: Path, onnx: OnnxNetwork | None
) -> nn.Module:
    """The module in evaluation mode, its weights as float32, for RGB. Raises `DeconvnetError` if they do not fit."""
    architecture = find_architecture(name)
    options = parse_options(architecture, {**metadata.options, "classes": classes}, metadata.source)
    if metadata.bgr and metadata.options.get("transform_input"):
        raise DeconvnetError(f"{file} is said to expect BGR and to transform its input, which is defined for RGB only.")
    module = build_empty(architecture.build, options)
    if onnx:
        onnx.check(module, metadata.preprocessing.crop, str(file), name)
    filled = module.state_dict()  # the module's own dictionary, which carries the versions of its submodules
    check_state_dict(state, filled, str(file), name)
    for key, value in state.items():
        filled[key] = value.to(torch.float32) if value.is_floating_point() else value
    if metadata.bgr:
        first = next(iter(filled))
        filled[first] = filled[first].flip(1)
    module.load_state_dict(filled, assign=True)
    return module.eval()
