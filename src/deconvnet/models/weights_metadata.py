"""What has to be known about weights besides their tensors: preprocessing, channel order, options, classes.

The same entries (docs/file-formats.md) are read from the metadata of a weights file of this project, from a row of
`pretrained.py` and from a TOML file.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data.as_preprocessing import AnyPreprocessing
from deconvnet.data.image_set import imagenet_classes
from deconvnet.data.transform_preprocessing import TransformPreprocessing
from deconvnet.data.transforms import Preprocessing, per_channel
from deconvnet.errors import DeconvnetError, UsageError

_REQUIRED = ("resize", "crop", "channels", "scale", "mean")
_OPTIONAL = ("std", "interpolation", "crop_mode", "network", "weights", "options", "classes")

#: The largest number that an option of a network may be.
_MAX_OPTION = 10**6


@dataclass(frozen=True)
class WeightsMetadata:
    """What belongs to weights and is not in their tensors."""

    preprocessing: Preprocessing
    """For RGB, whatever the channel order of the weights."""
    bgr: bool
    """Does the first layer expect blue, green, red?"""
    network: str = ""
    """Name of the network that the weights are for; empty if not stated."""
    weights: str = ""
    """What the weights are called in figures."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Entries for the network's options dataclass."""
    classes: tuple[tuple[str, str], ...] | None = None
    """(WordNet id, name) of each output."""
    source: str = ""
    """Where this was read, for errors."""

    def same_inputs(self, other: "WeightsMetadata") -> bool:
        """Whether both turn the same pixels into the same input, within 2 %: a mean may be rounded, or an image."""
        ours, theirs = self.preprocessing, other.preprocessing
        mean_difference = ours.mean.mean((1, 2)) / ours.scale - theirs.mean.mean((1, 2)) / theirs.scale
        std_ratio = (ours.std / ours.scale) / (theirs.std / theirs.scale)
        same_mean, same_std = (mean_difference.abs() < 0.02).all(), ((std_ratio - 1).abs() < 0.02).all()
        return bool(self.bgr == other.bgr and same_mean and same_std)


def parse_metadata(
    entries: Mapping[str, Any], source: str, mean_image: Tensor | None = None, folder: Path | None = None
) -> WeightsMetadata:
    """Parse entries; `source` names them in errors. Raises `DeconvnetError` for missing, unknown or invalid entries.

    `mean` is a number, three numbers in the file's own channel order, or the name of a `.npy` image (3, crop, crop) in
    `folder`; without a folder no other file is opened. `mean_image` is that image where the weights file itself holds it.
    """
    unknown = sorted(set(entries) - set(_REQUIRED) - set(_OPTIONAL))
    missing = [name for name in _REQUIRED if name not in entries]
    if unknown or missing:
        problem = f"has an unknown entry {unknown[0]!r}" if unknown else f"lacks the entry {missing[0]!r}"
        raise DeconvnetError(f"{source} {problem}: it needs {', '.join(_REQUIRED)} and may have {', '.join(_OPTIONAL)}.")
    resize, crop, channels, scale = (entries[name] for name in ("resize", "crop", "channels", "scale"))
    if channels not in ("RGB", "BGR"):
        raise DeconvnetError(f'{source} says channels = {channels!r}: it is "RGB" or "BGR".')
    options = entries.get("options", {})
    if not isinstance(options, Mapping):
        raise DeconvnetError(f"{source} has options {options!r}: they are a table of names and values.")
    mean = entries["mean"]
    if mean_image is None and isinstance(mean, str) and folder is not None:
        mean_image = _read_mean_image(folder / mean)
    mean = _parse_channels(mean, f"{source}: mean") if mean_image is None else mean_image
    std = _parse_channels(entries.get("std", 1.0), f"{source}: std")
    if mean.shape not in ((3, 1, 1), (3, crop, crop)):
        raise DeconvnetError(f"{source} needs a mean of 1 or 3 numbers or an image (3, {crop}, {crop}).")
    if channels == "BGR":
        mean, std = mean.flip(0), std.flip(0)
    white = float(scale) if type(scale) is int else scale
    try:
        preprocessing = Preprocessing(
            resize,
            crop,
            white,
            mean,
            std,
            interpolation=entries.get("interpolation", "bilinear"),
            crop_mode=entries.get("crop_mode", "center"),
        )
    except UsageError as error:
        raise DeconvnetError(f"{source}: {error}") from None
    return WeightsMetadata(
        preprocessing,
        bgr=channels == "BGR",
        network=str(entries.get("network", "")),
        weights=str(entries.get("weights", "")),
        options=options,
        classes=_parse_classes(entries.get("classes"), source),
        source=source,
    )


def read_metadata(file: Path) -> WeightsMetadata:
    """Read a TOML file (`--preprocessing FILE.toml`). Raises `DeconvnetError` if it is none, and as `parse_metadata`."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeconvnetError(f"There is no file {file}.") from None
    except (ValueError, OSError) as error:
        raise DeconvnetError(f"{file} is not a TOML file: {error}.") from None
    return parse_metadata(entries, str(file), folder=file.parent)


def preprocessing_metadata(preprocessing: AnyPreprocessing, mean_image: str) -> dict[str, Any]:
    """The entries of a preprocessing, for `parse_metadata` unless it is a transform; `mean_image` is the entry that stands
    for a mean image.
    """
    if isinstance(preprocessing, TransformPreprocessing):
        return preprocessing.metadata()
    # The usual crop mode is not written: files and digests of version 0.1 know no other.
    crop_mode = {} if preprocessing.crop_mode == "center" else {"crop_mode": preprocessing.crop_mode}
    return {
        "resize": preprocessing.resize,
        "crop": preprocessing.crop,
        "interpolation": preprocessing.interpolation,
        **crop_mode,
        "channels": "RGB",
        "scale": preprocessing.scale,
        "mean": mean_image if preprocessing.mean.shape[-1] > 1 else preprocessing.mean.flatten().tolist(),
        "std": preprocessing.std.flatten().tolist(),
    }


def check_options(options: Any, entries: Mapping[str, Any], source: str) -> dict[str, Any]:
    """`entries`, checked to fit the options dataclass `options`, with lists as tuples.

    Raises `DeconvnetError` for a name that the dataclass does not have, and for a value that is not of the same type as the
    dataclass's, negative, or above a million.
    """
    defaults = {option.name: getattr(options, option.name) for option in fields(options)}
    unknown = sorted(set(entries) - set(defaults))
    if unknown:
        raise DeconvnetError(f"{source} has an unknown option {unknown[0]!r}: there are {', '.join(sorted(defaults))}.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}
    for name, value in values.items():
        if not _has_type_of(defaults[name], value):
            expected = "a list of whole numbers" if defaults[name] == () else f"one like {defaults[name]!r}"
            raise DeconvnetError(f"{source} has the option {name} = {value!r}: give {expected}.")
    return values


def _has_type_of(default: Any, value: Any) -> bool:
    """Whether `value` can replace `default`: of the same type, and from 0 to `_MAX_OPTION`."""
    if is_dataclass(default):
        return isinstance(value, Mapping)
    if default == ():
        return isinstance(value, tuple) and all(_has_type_of(0, number) for number in value)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and len(value) == len(default) and all(map(_has_type_of, default, value))
    if isinstance(default, float):
        return _is_number(value) and 0 <= value <= _MAX_OPTION
    return type(value) is type(default) and (isinstance(value, str) or 0 <= value <= _MAX_OPTION)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_channels(value: Any, entry: str) -> Tensor:
    """One number or three as (3, 1, 1)."""
    numbers = [value] * 3 if _is_number(value) else value
    if not (isinstance(numbers, list | tuple) and len(numbers) == 3 and all(map(_is_number, numbers))):
        raise DeconvnetError(f"{entry} is {value!r}: it is one number or three.")
    return per_channel(numbers)


def _parse_classes(value: Any, source: str) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    if value == "imagenet1k":
        return imagenet_classes()
    if isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return tuple((str(wordnet_id), str(name)) for wordnet_id, name in value)
    raise DeconvnetError(f'{source} has classes that are neither "imagenet1k" nor pairs of a WordNet id and a name.')


def _read_mean_image(file: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, TypeError) as error:
        raise DeconvnetError(f"The mean image {file} cannot be read: {error}.") from None
