"""The state of a mining run: which images are done and what was found in them. It can be saved, loaded and merged."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deconvnet.data import InputSet
from deconvnet.data.input_dataset import sort_classes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining.statistics import Statistics
from deconvnet.mining.topk import RunningTopK
from deconvnet.models import Network
from deconvnet.models.rounding_error import probe_image
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.storage import atomic_write

_FORMAT = 1
_METADATA_ENTRY = "deconvnet-mining"

#: Units per layer whose response to the probe image is part of a key.
_PROBED_UNITS = 32


@dataclass(frozen=True)
class MiningKey:
    """What must be the same for two states to belong to one search."""

    network_digest: str
    """SHA-256 over the module's tensors and its structure as PyTorch prints it."""
    preprocessing_digest: str
    """SHA-256 over the preprocessing; without one, over the shape of the network's input."""
    image_set_digest: str
    """SHA-256 over relative paths and file sizes; of a data set over its name, its length and sixteen items."""
    image_count: int
    class_count: int
    """Classes of the images' folders. Those of a data set become known while mining, and are not counted here."""
    layers: dict[str, int]
    """Number of units by layer, in the order in which the layers run."""
    top: int
    """Hits per unit, at most."""
    probe_maxima: dict[str, list[float]] = field(compare=False)
    """By layer, the maxima of some units for a fixed image of noise. They reveal a changed `forward`, which neither tensors
    nor structure show. Compared only by `differences`, with a tolerance: other devices round differently."""

    @classmethod
    def compute(cls, network: Network, image_set: InputSet, layers: Iterable[str], top: int) -> Self:
        """The key of a search with these arguments.

        Raises `UsageError` for an unknown layer, or if `top` is below 1; `DeconvnetError` for a data set that is not the
        same when it is read again.
        """
        if top < 1:
            raise UsageError(f"top = {top}: it must be 1 or more.")
        names = sorted(set(layers), key=lambda name: network.layer(name).index)
        structure = re.sub(r" at 0x[0-9a-f]+", "", str(network.module))  # addresses change from run to run
        return cls(
            network_digest=_sha256(network.digest.encode() + structure.encode()),
            preprocessing_digest=_sha256(_describe_input(network)),
            image_set_digest=image_set.digest,
            image_count=len(image_set),
            class_count=len(image_set.classes),
            layers={name: network.layer(name).units for name in names},
            top=top,
            probe_maxima=_probe_maxima(network, names),
        )

    def as_json(self) -> dict[str, Any]:
        """The key in plain values, by its names in files (docs/file-formats.md)."""
        return {
            "network": self.network_digest,
            "preprocessing": self.preprocessing_digest,
            "photos": self.image_set_digest,
            "photo_count": self.image_count,
            "class_count": self.class_count,
            "layers": self.layers,
            "top": self.top,
            "answers": self.probe_maxima,
            "fast": False,  # version 0.1 also had an inexact search, in bfloat16
        }

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """The key from what `as_json` returned.

        Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for anything else.
        """
        if entries.get("fast", False):
            raise ValueError("it is of a search with --fast, which this version does not have")
        key = cls(
            network_digest=entries["network"],
            preprocessing_digest=entries["preprocessing"],
            image_set_digest=entries["photos"],
            image_count=entries["photo_count"],
            class_count=entries["class_count"],
            layers=entries["layers"],
            top=entries["top"],
            probe_maxima=entries["answers"],
        )
        if unknown := entries.keys() - key.as_json().keys():
            raise ValueError(f"a key with {', '.join(sorted(unknown))}")
        return key

    def differences(self, other: "MiningKey") -> str:
        """How `other` differs from this key, in words: "another network and top = 4". Empty if they agree."""
        phrases = {
            "network_digest": "another network",
            "preprocessing_digest": "another preprocessing",
            "image_set_digest": "other photos",
            "layers": f"other layers ({', '.join(other.layers)})",
            "top": f"top = {other.top}",
        }
        differing = [phrase for name, phrase in phrases.items() if getattr(self, name) != getattr(other, name)]
        common = self.probe_maxima.keys() & other.probe_maxima.keys()
        if self.network_digest == other.network_digest and not all(
            _close(self.probe_maxima[name], other.probe_maxima[name]) for name in common
        ):
            differing.insert(0, phrases["network_digest"])
        return " and ".join(differing) or ("other photos" if self != other else "")


class MiningState:
    """Top-k and statistics of each layer's units over the images that are `done`.

    The content depends, to the last bit, only on which images were added, not on the order or the grouping.
    """

    def __init__(self, key: MiningKey) -> None:
        self.key = key
        self.done = torch.zeros(key.image_count, dtype=torch.bool)
        """(images,) whether an image was mined or could not be read."""
        self.skipped: dict[int, str] = {}
        """Indices of images that could not be read, with the reason."""
        self.topk = {name: RunningTopK(units, key.top) for name, units in key.layers.items()}
        self.statistics = {name: Statistics(units, key.class_count) for name, units in key.layers.items()}
        self.classes: list[str] = []
        """The labels of a data set's items so far, ascending; empty for images, whose folders are their classes."""
        self.labels = torch.full((key.image_count,), -1, dtype=torch.int64)
        """(images,) each item's index in `classes`, -1 for none."""
        self._consistent = True
        """False while the state changes: an interruption may then leave it half changed."""

    @property
    def read_count(self) -> int:
        """Number of images that were read."""
        return int(self.done.sum()) - len(self.skipped)

    @property
    def remaining(self) -> Tensor:
        """(n,) indices of the images that are not done, ascending."""
        return (~self.done).nonzero().flatten()

    def resize(self, image_count: int) -> None:
        """Make room for so many items, or leave off those at the end: an iterable does not say how many it has."""
        kept = slice(image_count)
        missing = max(0, image_count - len(self.done))
        self.done = torch.cat([self.done[kept], torch.zeros(missing, dtype=torch.bool)])
        self.labels = torch.cat([self.labels[kept], torch.full((missing,), -1)])
        self.key = replace(self.key, image_count=image_count)

    def add_labels(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Keep the labels of items of a data set, "" for none, and return their class indices (n,), for `add`."""
        self._add_classes(set(names) - {""})
        index_by_name = {name: index for index, name in enumerate(self.classes)}
        self.labels[images] = torch.tensor([index_by_name.get(name, -1) for name in names], dtype=torch.int64)
        return self.labels[images]

    def _add_classes(self, names: Iterable[str]) -> None:
        """Add classes, at their place in ascending order: the state does not depend on which came first."""
        classes = sort_classes([*self.classes, *names])
        if classes == self.classes:
            return
        self._consistent = False
        positions = [classes.index(name) for name in self.classes]
        for statistics in self.statistics.values():
            statistics.insert_classes(positions, len(classes))
        self.labels = torch.tensor([*positions, -1])[self.labels]
        self.classes = classes
        self._consistent = True

    def add(
        self,
        images: Tensor,
        maxima: Mapping[str, tuple[Tensor, Tensor]],
        labels: Tensor,
        checksums: Tensor,
        skipped: dict[int, str],
    ) -> None:
        """Add images that are not done yet, and those that could not be read (`skipped`). Does not wait for the device.

        `images` (n,) are indices, `labels` (n,) class indices, -1 for none, `checksums` (n,) those of the images' views.
        `maxima` has for each layer the units' maxima (n, units) float32 and their flat positions (n, units), -1 for those
        that need not be kept, on the device of the state.
        """
        self._consistent = False
        device = next((values.device for values, _ in maxima.values()), None)
        labels, checksums, device_images = (tensor.to(device=device) for tensor in (labels, checksums, images))
        for name, (values, flat_positions) in maxima.items():
            self.topk[name].add(values.T, device_images, flat_positions.T, checksums)
            self.statistics[name].add(values, labels)
        self.skipped |= skipped
        self.done[images] = True
        self.done[list(skipped)] = True
        self._consistent = True

    def merge(self, other: "MiningState") -> None:
        """Add a state of the same key over other images. Raises `DeconvnetError` for another key or common images."""
        if difference := self.key.differences(other.key):
            raise DeconvnetError(f"States of one search were expected, but one was mined with {difference}.")
        if common := int((self.done & other.done).sum()):
            raise DeconvnetError(f"{common:,} photos were mined twice: states of disjoint photos were expected.")
        self._add_classes(other.classes)
        other._add_classes(self.classes)
        self._consistent = False
        self.labels = torch.where(other.done, other.labels, self.labels)
        for name in self.key.layers:
            self.topk[name].merge(other.topk[name])
            self.statistics[name].merge(other.statistics[name])
        self.skipped = dict(sorted((self.skipped | other.skipped).items()))
        self.done |= other.done
        self._consistent = True

    def to(self, device: torch.device | str) -> Self:
        """Move top-k and statistics to the device of the maxima that are added; returns the state."""
        for name in self.key.layers:
            self.topk[name].to(device)
            self.statistics[name].to(device)
        return self

    def to_bytes(self) -> bytes:
        """The content of a state file (docs/file-formats.md). Equal states give equal bytes."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}
        description = {"format": _FORMAT, "key": self.key.as_json(), "skipped": sorted(self.skipped.items())}
        if self.classes:
            description["classes"] = self.classes
        return save(tensors, {_METADATA_ENTRY: json.dumps(description)})

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> Self:
        """The state that `to_bytes` wrote; `source` names it in errors.

        Raises `DeconvnetError` if the content is truncated, damaged, of another version or no state at all.
        """
        try:
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            description = json.loads(header["__metadata__"][_METADATA_ENTRY])
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise DeconvnetError(f"{source} is not a whole state file of mining: mine it again.") from None
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            raise DeconvnetError(f"{source} was written by another version of deconvnet: mine it again.")
        if isinstance(key := description.get("key"), dict) and key.get("fast"):
            raise DeconvnetError(f"{source} is of a search with --fast, which this version does not have: mine it again.")
        try:
            state = cls(MiningKey.from_json(description["key"]))
            state.skipped = {int(index): str(reason) for index, reason in description["skipped"]}
            state._add_classes(map(str, description.get("classes", ())))
            state._fill(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DeconvnetError(f"{source} is a damaged state file ({error}): mine it again.") from None
        return state

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors by their names in the state file; not copies."""
        tensors = {"done": self.done} | ({"labels": self.labels} if self.classes else {})
        for layer in self.key.layers:
            layer_tensors = self.topk[layer].tensors() | self.statistics[layer].tensors()
            tensors |= {f"{layer}/{name}": tensor for name, tensor in layer_tensors.items()}
        return tensors

    def _fill(self, tensors: dict[str, Tensor]) -> None:
        """Copy the tensors of a file into the state. Raises `ValueError` or `KeyError` for any that do not fit."""
        for name, target in self._tensors().items():
            if name.endswith("/views") and name not in tensors:
                continue  # version 0.1 kept no checksums
            if tensors[name].shape != target.shape or tensors[name].dtype != target.dtype:
                raise ValueError(f"{name} is {tensors[name].dtype} {tuple(tensors[name].shape)}")
            target.copy_(tensors[name])
        for name, topk in self.topk.items():
            images = topk.images[topk.images >= 0]
            in_range = bool((images < self.key.image_count).all() and (topk.flat_positions >= 0).all())
            if not in_range or not self.done[images].all():
                raise ValueError(f"{name} has hits in photos that were not mined")
        if not ((self.labels >= -1) & (self.labels < max(len(self.classes), 1))).all():
            raise ValueError("it has labels of no class")
        if not all(0 <= index < self.key.image_count for index in self.skipped):
            raise ValueError("it skipped photos that do not exist")

    def save(self, file: Path) -> None:
        """Write the state to `file` atomically. Raises `DeconvnetError` if it cannot be written.

        If an interruption left the state half changed, nothing is written, and the file keeps what was saved before.
        """
        if self._consistent:
            atomic_write(file, self.to_bytes())

    @classmethod
    def load(cls, file: Path, key: MiningKey | None = None) -> Self:
        """Read a state file. Raises `DeconvnetError` if it cannot be read, is no state file, or does not have `key`."""
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            raise DeconvnetError(f"There is no file {file}.") from None
        except OSError as error:
            raise DeconvnetError(f"{file} cannot be read: {error.strerror}.") from None
        state = cls.from_bytes(content, str(file))
        if key is not None and (difference := key.differences(state.key)):
            raise DeconvnetError(
                f"{file} was mined with {difference}: finish it with the command that began it, or remove it."
            )
        return state


def _describe_input(network: Network) -> bytes:
    """What must be the same for an input to be the same."""
    if not network.input_space.reads_photos:
        return json.dumps(network.input_shape).encode()
    mean = network.preprocessing.mean.contiguous().numpy().tobytes()
    return json.dumps(preprocessing_metadata(network.preprocessing, "")).encode() + mean


def _probe_maxima(network: Network, layers: list[str]) -> dict[str, list[float]]:
    """By layer, the maxima of up to `_PROBED_UNITS` units for a fixed image of noise."""
    probe_maxima: dict[str, list[float]] = {}

    def add(name: str, maps: Tensor) -> None:
        maxima = maps[0].flatten(1).amax(dim=1)
        step = -(-len(maxima) // _PROBED_UNITS)
        probe_maxima[name] = maxima[::step].tolist()

    with torch.inference_mode():
        network.capture(probe_image(network), layers, add)
    return probe_maxima


def _close(first: list[float], second: list[float]) -> bool:
    """Whether two lists of maxima differ by rounding only."""
    return len(first) == len(second) and np.allclose(first, second, rtol=0, atol=1e-3 * np.abs(first).max(), equal_nan=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
