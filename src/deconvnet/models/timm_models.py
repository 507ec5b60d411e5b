"""The models of timm, each under the name `timm:NAME` or `timm:NAME.TAG`, with the preprocessing that timm states.

timm is an optional dependency and takes seconds to import, so it is imported inside the functions that need it. Its own
loading would download and unpickle: here a file is read as any other, and only a tag that is asked for is downloaded.
"""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from deconvnet.data.as_preprocessing import as_preprocessing
from deconvnet.data.image_set import imagenet_classes
from deconvnet.data.transforms import Preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.extras import require_extra
from deconvnet.models.hub_file import HubFile
from deconvnet.models.pretrained import PretrainedFile
from deconvnet.models.registry_entry import Architecture, ModelOptions, build_empty
from deconvnet.models.torchvision_models import adapt_state
from deconvnet.models.weights_metadata import preprocessing_metadata

PREFIX = "timm:"

#: What `timm.models.push_to_hf_hub` and the repositories of timm's own weights call the description of a file of weights.
_DESCRIPTION = "config.json"


def build_model(model: str, options: ModelOptions, **arguments: Any) -> nn.Module:
    """The untrained module; `arguments` are more of `timm.create_model`'s."""
    import timm

    module: nn.Module = timm.create_model(model, pretrained=False, **{**arguments, "num_classes": options.classes})
    module.pretrained_cfg = {}  # type: ignore[assignment]  # what its weights are comes with them
    return module


@cache
def architecture(model: str) -> Architecture:
    """The architecture of NAME or NAME.TAG. Raises `UsageError`, which lists similar names, if timm has no such model, and
    `DeconvnetError` if timm is not installed.
    """
    require_extra("timm")
    configuration = _configuration(model)
    options = ModelOptions(classes=int(configuration["num_classes"]))
    build = partial(build_model, model)
    last_weight = _last_weight(build_empty(build, options), configuration)
    return Architecture(
        summary=f"{model} of timm",
        options=options,
        build=build,
        preprocessing=_preprocessing(model, configuration),
        classifier_prefix=last_weight.removesuffix("weight"),
        last_weight=last_weight,
        adapt_state=adapt_state,
        describe_file=partial(_describe_file, model),
    )


def pretrained_files() -> tuple[PretrainedFile, ...]:
    """None: timm states no digests, so a file is not recognised."""
    return ()


@cache
def weights_of(network: str) -> dict[str, HubFile]:
    """The published weights of `timm:NAME`, or the one of `timm:NAME.TAG`, by tag, timm's default first."""
    require_extra("timm")
    model = network.removeprefix(PREFIX)
    published = {}
    for tag, configuration in _configurations(model).items():
        if configuration["hf_hub_id"] or configuration["url"]:
            published[tag] = HubFile(
                network=network,
                keyword=tag,
                repository=configuration["hf_hub_id"] or "",
                file=configuration["hf_hub_filename"] or "model.safetensors",
                describe=partial(_metadata, model, configuration, weights=tag),
            )
    return published


def default_keyword(network: str) -> str:
    """TAG of `timm:NAME.TAG`; empty for `timm:NAME`, as nothing is downloaded that nobody asked for."""
    return network.partition(".")[2]


def _configurations(model: str) -> dict[str, Mapping[str, Any]]:
    """The `pretrained_cfg` of the weights of a model, by tag, the default first; of NAME.TAG that one."""
    from timm.models import get_pretrained_cfg, list_models

    name, _, tag = model.partition(".")
    default = vars(get_pretrained_cfg(name))["tag"]
    tagged = [tag] if tag else [found.partition(".")[2] for found in list_models(f"{name}.*", include_tags=True)]
    return {
        tag: vars(get_pretrained_cfg(f"{name}.{tag}" if tag else name))
        for tag in sorted(tagged, key=lambda tag: tag != default)
    }


def _configuration(model: str) -> Mapping[str, Any]:
    """The `pretrained_cfg` of NAME's default weights, or of NAME.TAG. Raises `UsageError` if there is no such model."""
    from timm import list_models

    name, _, tag = model.partition(".")
    names = list_models()
    if name not in names:
        similar = get_close_matches(name.lower(), names, n=5, cutoff=0.4)
        hint = f"did you mean {', '.join(similar)}?" if similar else "timm.list_models() lists them."
        raise UsageError(f"timm has no model {name!r}: {hint}")
    configurations = _configurations(name)
    if tag and tag not in configurations:
        raise UsageError(f"timm has no weights {tag!r} of {name}: there are {', '.join(configurations)}.")
    return configurations[tag or next(iter(configurations))]


def _preprocessing(model: str, configuration: Mapping[str, Any]) -> Preprocessing:
    preprocessing = as_preprocessing(configuration)
    if not isinstance(preprocessing, Preprocessing):
        raise DeconvnetError(f"timm shows images to {model} in a way that this version does not know: load it in FILE.py.")
    return preprocessing


def _metadata(model: str, configuration: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """A configuration as entries of `weights_metadata`, and `more` of them."""
    entries = {**preprocessing_metadata(_preprocessing(model, configuration), ""), **more}
    if classes := _classes(configuration):
        entries["classes"] = classes
    return entries


def _classes(configuration: Mapping[str, Any]) -> Any:
    """Names of the classes that a configuration states, or that timm knows of a data set of that size; else None."""
    names = configuration.get("label_names")
    if names:
        descriptions = configuration.get("label_descriptions") or {}
        return [(name, descriptions.get(name, name)) for name in names]
    if configuration["num_classes"] == len(imagenet_classes()):
        return "imagenet1k"
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(dict(configuration))
    if not subset:
        return None
    known = ImageNetInfo(subset)
    return list(zip(known.label_names(), known.label_descriptions(), strict=True))


def _describe_file(model: str, file: Path, classes: int) -> Mapping[str, Any]:
    """What is known of a file of weights: from the `config.json` beside it, which timm writes, or else from NAME.TAG.

    Classes are named if the file has as many. Raises `DeconvnetError` if there is neither, and the model's published weights
    differ in what they are shown.
    """
    description = file.with_name(_DESCRIPTION)
    if description.is_file():
        return _read_description(model, description)
    configuration = _configuration(model)
    if "." in model and classes == configuration["num_classes"]:
        return _metadata(model, configuration)
    configurations = _configurations(model)
    shown = {(tuple(stated["mean"]), tuple(stated["std"])) for stated in configurations.values()}
    if len(shown) > 1:
        raise DeconvnetError(
            f"{file} does not say what preprocessing its weights expect, and timm's own of {model} differ in mean and std: "
            f"say which they are like, as {PREFIX}{model}.{next(iter(configurations))}:PATH, or describe them with "
            "--preprocessing FILE.toml (docs/file-formats.md has an example)."
        )
    return preprocessing_metadata(_preprocessing(model, configuration), "")  # as many outputs need not be the same classes


def _read_description(model: str, file: Path) -> dict[str, Any]:
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        architecture, arguments = stated["architecture"], dict(stated.get("model_args") or {})
        configuration = {**stated["pretrained_cfg"], "num_classes": stated["num_classes"]}
        configuration |= {name: stated[name] for name in ("label_names", "label_descriptions") if name in stated}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DeconvnetError(
            f"{file}, which lies beside the weights, is not what timm writes there ({type(error).__name__}: {error}): move "
            "it away, or describe the weights with --preprocessing FILE.toml."
        ) from None
    if architecture != model.partition(".")[0]:
        raise DeconvnetError(f"{file.parent} holds weights of {architecture}: pass {PREFIX}{architecture}:PATH.")
    usual, described = (build_empty(partial(build_model, model, **more), ModelOptions()) for more in ({}, arguments))
    if str(described) != str(usual):
        raise DeconvnetError(
            f"{file} says that the weights are of a {architecture} made with other arguments ({arguments}): make it with "
            "timm.create_model in a FILE.py of yours."
        )
    return _metadata(model, configuration)


def _last_weight(module: nn.Module, configuration: Mapping[str, Any]) -> str:
    """The tensor whose first dimension is the number of classes."""
    classifier = configuration["classifier"]
    stated = f"{classifier[0] if isinstance(classifier, tuple | list) else classifier}.weight"
    names = [name for name in module.state_dict() if name.endswith(".weight")]
    return stated if stated in names else names[-1]
