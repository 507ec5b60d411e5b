"""What has to be said of weights beside the weights themselves, and the places where it may be said.

It stands in the metadata of a weights file of this project, in a row of `published.py`, or in a TOML file; all three have
the same entries (docs/file-formats.md).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.networks.classes import imagenet_classes
from deconvnet.networks.preprocessing import INTERPOLATIONS, Preprocessing, per_channel

_REQUIRED = ("resize", "crop", "channels", "scale", "mean")
_OPTIONAL = ("std", "interpolation", "network", "weights", "options", "classes")


@dataclass(frozen=True)
class Description:
    """What belongs to weights and is not in their tensors."""

    preprocessing: Preprocessing
    bgr: bool
    """The first layer's weights expect blue, green, red."""
    network: str = ""
    """The network that the weights are for, if it is said."""
    weights: str = ""
    """What the weights are called in figures."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the network's options dataclass."""
    classes: tuple[tuple[str, str], ...] | None = None
    """(WordNet id, name) of each output."""
    source: str = ""
    """Where it was said, for errors."""


def describe(
    entries: Mapping[str, Any], source: str, mean_image: Tensor | None = None, folder: Path = Path()
) -> Description:
    """Read a description; `source` names it in errors. Raises `DeconvnetError` for missing, unknown or unfit entries.

    `mean` is a number, three numbers in the file's own channel order, or the name of a `.npy` image (3, crop, crop) in
    `folder`; `mean_image` is that image where the weights' file itself holds it.
    """
    unknown = sorted(set(entries) - set(_REQUIRED) - set(_OPTIONAL))
    missing = [name for name in _REQUIRED if name not in entries]
    if unknown or missing:
        problem = f"has an unknown entry {unknown[0]!r}" if unknown else f"lacks the entry {missing[0]!r}"
        raise DeconvnetError(f"{source} {problem}: it needs {', '.join(_REQUIRED)} and may have {', '.join(_OPTIONAL)}.")
    resize, crop, channels, scale = (entries[name] for name in ("resize", "crop", "channels", "scale"))
    if not (isinstance(resize, int) and isinstance(crop, int) and 0 < crop <= resize):
        raise DeconvnetError(f"{source} says resize = {resize}, crop = {crop}: both are pixels and crop is at most resize.")
    if channels not in ("RGB", "BGR"):
        raise DeconvnetError(f'{source} says channels = {channels!r}: it is "RGB" or "BGR".')
    if scale not in (1, 255):
        raise DeconvnetError(f"{source} says scale = {scale!r}: it is the value of white, 1 or 255.")
    mean = entries["mean"]
    if mean_image is None and isinstance(mean, str):
        mean_image = _read_mean_image(folder / mean)
    mean = _numbers(mean, f"{source}: mean") if mean_image is None else mean_image
    std = _numbers(entries.get("std", 1.0), f"{source}: std")
    if mean.shape not in ((3, 1, 1), (3, crop, crop)) or not (std > 0).all() or not mean.isfinite().all():
        raise DeconvnetError(f"{source} needs a mean of 1 or 3 numbers or an image (3, {crop}, {crop}), and std above 0.")
    interpolation = entries.get("interpolation", "bilinear")
    if interpolation not in INTERPOLATIONS:
        raise DeconvnetError(f'{source} says interpolation = {interpolation!r}: it is "bilinear" or "bicubic".')
    if channels == "BGR":
        mean, std = mean.flip(0), std.flip(0)
    return Description(
        Preprocessing(resize, crop, float(scale), mean, std, interpolation),
        bgr=channels == "BGR",
        network=str(entries.get("network", "")),
        weights=str(entries.get("weights", "")),
        options=entries.get("options", {}),
        classes=_classes(entries.get("classes"), source),
        source=source,
    )


def read_description(file: Path) -> Description:
    """Read a TOML description (`--preprocessing FILE.toml`)."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeconvnetError(f"There is no file {file}.") from None
    except (ValueError, OSError) as error:
        raise DeconvnetError(f"{file} is not a TOML file: {error}.") from None
    return describe(entries, str(file), folder=file.parent)


def preprocessing_entries(preprocessing: Preprocessing, mean_image: str) -> dict[str, Any]:
    """The entries of a preprocessing, for `describe` to read; `mean_image` says where a mean image is to be found."""
    return {
        "resize": preprocessing.resize,
        "crop": preprocessing.crop,
        "interpolation": preprocessing.interpolation,
        "channels": "RGB",
        "scale": preprocessing.scale,
        "mean": mean_image if preprocessing.mean.shape[-1] > 1 else preprocessing.mean.flatten().tolist(),
        "std": preprocessing.std.flatten().tolist(),
    }


def check_options(options: Any, entries: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Entries for the options dataclass `options`, lists as tuples.

    Raises `DeconvnetError` for a name that it does not have, and for a value that is negative or not of the kind of its own.
    """
    if not isinstance(entries, Mapping):
        raise DeconvnetError(f"{source} has options {entries!r}: they are a table of names and values.")
    known = {option.name: getattr(options, option.name) for option in fields(options)}
    unknown = sorted(set(entries) - set(known))
    if unknown:
        raise DeconvnetError(f"{source} has an unknown option {unknown[0]!r}: there are {', '.join(sorted(known))}.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}
    for name, value in values.items():
        if not _alike(value, known[name]):
            raise DeconvnetError(f"{source} has the option {name} = {value!r}: give one like {known[name]!r}.")
    return values


def _alike(value: Any, default: Any) -> bool:
    if is_dataclass(default):
        return isinstance(value, Mapping)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and len(value) == len(default) and all(map(_alike, value, default))
    if not isinstance(value, int | float if isinstance(default, float) else type(default)):
        return False
    return isinstance(value, str) or value >= 0


def _numbers(value: Any, what: str) -> Tensor:
    numbers = [value] * 3 if isinstance(value, int | float) else value
    if not (isinstance(numbers, list | tuple) and len(numbers) == 3 and all(isinstance(n, int | float) for n in numbers)):
        raise DeconvnetError(f"{what} is {value!r}: it is one number or three.")
    return per_channel(numbers)


def _classes(value: Any, source: str) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    if value == "imagenet1k":
        return imagenet_classes()
    if isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return tuple((str(wordnet), str(name)) for wordnet, name in value)
    raise DeconvnetError(f'{source} has classes that are neither "imagenet1k" nor pairs of a WordNet id and a name.')


def _read_mean_image(file: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, TypeError) as error:
        raise DeconvnetError(f"The mean image {file} cannot be read: {error}.") from None
