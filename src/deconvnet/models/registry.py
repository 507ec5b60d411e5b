"""The networks that have a name, and what is known about each: its architecture and the weights that exist for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from deconvnet.data.image_set import imagenet_classes
from deconvnet.data.transforms import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import timm_models, torchvision_models
from deconvnet.models.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.models.bundled import BUNDLED
from deconvnet.models.hub_file import HubFile
from deconvnet.models.network import Network
from deconvnet.models.pretrained import PRETRAINED, PretrainedFile
from deconvnet.models.registry_entry import Architecture, ModelOptions, build_empty
from deconvnet.models.torchvision_models import build_model
from deconvnet.models.user_file import split_user_spec
from deconvnet.models.weights_metadata import check_options
from deconvnet.models.zfnet import ZFNet, ZFNetOptions

_ZFNET = Architecture(
    summary="Zeiler & Fergus' change of it (Fig. 3): dense, 7×7 first filters at stride 2",
    options=ZFNetOptions(),
    build=ZFNet,
    preprocessing=torchvision_preprocessing(),
    classifier_prefix="fc",
    last_weight="fc8.weight",
)

#: The networks that `load` knows by name, besides those of libraries (`torchvision:MODEL`, `timm:MODEL`).
ARCHITECTURES: Mapping[str, Architecture] = {
    "alexnet": Architecture(
        summary='torchvision\'s AlexNet (Krizhevsky 2014, "one weird trick"): no groups, no normalisation',
        options=ModelOptions(),
        build=partial(build_model, "alexnet"),
        preprocessing=torchvision_preprocessing(),
        classifier_prefix="classifier.",
        last_weight="classifier.6.weight",
        paper_layer_names=True,
    ),
    "alexnet2012": Architecture(
        summary="AlexNet as published in 2012: groups, contrast normalisation, 11×11 first filters at stride 4",
        options=AlexNetOptions(),
        build=AlexNet2012,
        preprocessing=torchvision_preprocessing(crop=227),
        classifier_prefix="fc",
        last_weight="fc8.weight",
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


# Names


class Library(Protocol):
    """A module that knows the models of a library."""

    PREFIX: str

    def architecture(self, model: str, /) -> Architecture:
        """The architecture of a model. Raises `UsageError` if there is none of that name."""

    def pretrained_files(self) -> Sequence[PretrainedFile]:
        """The library's published weights that are recognised by their digest."""

    def weights_of(self, network: str, /) -> Mapping[str, PretrainedFile] | Mapping[str, HubFile]:
        """The published weights of PREFIX + MODEL by keyword."""

    def default_keyword(self, network: str, /) -> str:
        """The keyword of the weights that it has if none are asked for; empty if there are none."""


_LIBRARIES: Sequence[Library] = (torchvision_models, timm_models)


def find_library(spec: str) -> Library | None:
    """The library by whose prefix a network's name begins; None for our own networks and for FILE.py:FUNCTION."""
    return next((library for library in _LIBRARIES if spec.startswith(library.PREFIX)), None)


def user_function(spec: str) -> tuple[Path, str] | None:
    """The file and the function of `FILE.py:function`; None for a network that has a name."""
    return None if find_library(spec) or spec.partition(":")[0] in ARCHITECTURES else split_user_spec(spec)


def split_spec(spec: str) -> tuple[str, str]:
    """NAME and WEIGHTS (empty if there are none) of NAME or NAME:WEIGHTS."""
    library = find_library(spec)
    prefix = library.PREFIX if library else ""
    name, _, weights = spec.removeprefix(prefix).partition(":")
    return prefix + name, weights


def find_architecture(name: str) -> Architecture:
    """The architecture of a name. Raises `UsageError`, which lists the names, if there is none."""
    if library := find_library(name):
        return library.architecture(name.removeprefix(library.PREFIX))
    if name not in ARCHITECTURES:
        others = ", ".join(f"{library.PREFIX}MODEL" for library in _LIBRARIES)
        raise UsageError(
            f"There is no network {name!r}; there are {', '.join(ARCHITECTURES)}, {others} and FILE.py:FUNCTION."
        )
    return ARCHITECTURES[name]


# Weights


def pretrained_files(name: str) -> Sequence[PretrainedFile]:
    """The published files among which a file for this network is identified; some are of other networks."""
    library = find_library(name)
    return library.pretrained_files() if library else PRETRAINED


def downloads(name: str) -> Mapping[str, PretrainedFile] | Mapping[str, HubFile]:
    """The published weights of a network that can be downloaded, by keyword."""
    if library := find_library(name):
        return library.weights_of(name)
    return {file.keyword: file for file in PRETRAINED if file.network == name and file.keyword}


def weights_keywords(name: str) -> list[str]:
    """Keywords of a network's weights: bundled ones first, then those to download."""
    return [*([BUNDLED[name]] if name in BUNDLED else []), *downloads(name)]


def default_keyword(name: str) -> str:
    """The keyword of the weights that a network has if none are asked for; empty if there are none."""
    if library := find_library(name):
        return library.default_keyword(name)
    # alexnet defaults to torchvision's weights; any other download has to be asked for.
    return BUNDLED.get(name, next(iter(downloads(name)), "") if name == "alexnet" else "")


# Networks without trained weights


def layer_names(architecture: Architecture, classes: int) -> list[str] | None:
    """Names of the layers in the order in which they run; None where the module or its paths name them."""
    if not architecture.paper_layer_names:
        return None
    return ["conv1", "conv2", "conv3", "conv4", "conv5", *(["fc6", "fc7"] if classes else [])]


def parse_options(architecture: Architecture, entries: Mapping[str, Any], source: str) -> Any:
    """An architecture's options, changed by `entries`. Raises `DeconvnetError` for entries that it does not have."""
    values = check_options(architecture.options, entries, source)
    if "contrast" in values:
        try:
            values["contrast"] = LRNConstants(**check_options(LRNConstants(), values["contrast"], source))
        except UsageError as error:
            raise DeconvnetError(f"{source}: {error}") from None
    return replace(architecture.options, **values)


def build_module(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """The module of a network, as `build_untrained`, in training mode."""
    architecture = find_architecture(name)
    return architecture.build(parse_options(architecture, options or {}, name))


def build_untrained(name: str, options: Mapping[str, Any] | None = None) -> Network:
    """A network with the weights that its module's constructor draws, and with `options` that differ from its defaults.

    Raises `UsageError` for an unknown name, `DeconvnetError` for options that it does not have.
    """
    architecture = find_architecture(name)
    parsed = parse_options(architecture, options or {}, name)
    return Network(
        architecture.build(parsed).eval(),
        architecture.preprocessing,
        name=name,
        weights="untrained",
        layer_names=layer_names(architecture, int(parsed.classes)),
        classes=imagenet_classes() if parsed.classes == 1000 else None,
    )


def build_meta_network(name: str) -> Network:
    """A network on the meta device, whose weights take no memory: it has layers, but computes nothing."""
    architecture = find_architecture(name)
    return Network(
        build_empty(architecture.build, architecture.options),
        architecture.preprocessing,
        name=name,
        layer_names=layer_names(architecture, architecture.options.classes),
    )
