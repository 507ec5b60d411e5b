"""What mining knows so far: of which photos, and what it found in them. It can be saved, read again and merged."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining.statistics import Statistics
from deconvnet.mining.topk import RunningTopK
from deconvnet.models import Network
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.storage import atomic_write

_FORMAT = 1
_ENTRY = "deconvnet-mining"  # of the file's metadata


@dataclass(frozen=True)
class Key:
    """What has to be the same for two states to be pieces of one search."""

    network: str
    """SHA-256 over the module's tensors and its structure as PyTorch prints it."""
    preprocessing: str
    """SHA-256."""
    photos: str
    """SHA-256 over relative paths and file sizes."""
    photo_count: int
    class_count: int
    layers: dict[str, int]
    """Units by layer, in the order in which the layers run."""
    top: int
    answers: dict[str, list[float]] = field(compare=False)
    """By layer, the largest activations of some units in one fixed picture: what a changed `forward` changes, which neither
    tensors nor structure show. Compared by `differences` only, as other devices round otherwise."""

    @classmethod
    def of(cls, network: Network, photos: ImageSet, layers: Iterable[str], top: int) -> Self:
        """Raises `UsageError` for an unknown layer, or if `top` is less than 1."""
        if top < 1:
            raise UsageError(f"top = {top}: it must be 1 or more.")
        names = sorted(set(layers), key=lambda name: network.layer(name).index)
        structure = re.sub(r" at 0x[0-9a-f]+", "", str(network.module))  # addresses change from run to run
        means = network.preprocessing.mean.contiguous().numpy().tobytes()
        return cls(
            network=_digest(network.digest.encode() + structure.encode()),
            preprocessing=_digest(json.dumps(preprocessing_metadata(network.preprocessing, "")).encode() + means),
            photos=photos.digest,
            photo_count=len(photos),
            class_count=len(photos.classes),
            layers={name: network.layer(name).units for name in names},
            top=top,
            answers=_answers(network, names),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they stand in files (docs/file-formats.md)."""
        return {
            "network": self.network,
            "preprocessing": self.preprocessing,
            "photos": self.photos,
            "photo_count": self.photo_count,
            "class_count": self.class_count,
            "layers": self.layers,
            "top": self.top,
            "answers": self.answers,
            "fast": False,  # version 0.1 had another search, in bfloat16
        }

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """What `as_json` gave. Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for anything else."""
        if entries.get("fast", False):
            raise ValueError("it is of a search with --fast, which this version does not have")
        found = cls(
            network=entries["network"],
            preprocessing=entries["preprocessing"],
            photos=entries["photos"],
            photo_count=entries["photo_count"],
            class_count=entries["class_count"],
            layers=entries["layers"],
            top=entries["top"],
            answers=entries["answers"],
        )
        if unknown := entries.keys() - found.as_json().keys():
            raise ValueError(f"a key with {', '.join(sorted(unknown))}")
        return found

    def differences(self, other: "Key") -> str:
        """In words, what `other` has that is not as it is here; empty if they are the same."""
        words = {
            "network": "another network",
            "preprocessing": "another preprocessing",
            "photos": "other photos",
            "layers": f"other layers ({', '.join(other.layers)})",
            "top": f"top = {other.top}",
        }
        differing = [words[name] for name in words if getattr(self, name) != getattr(other, name)]
        common = self.answers.keys() & other.answers.keys()
        if self.network == other.network and not all(_agree(self.answers[name], other.answers[name]) for name in common):
            differing.insert(0, words["network"])
        return " and ".join(differing) or ("other photos" if self != other else "")


class State:
    """The strongest activations and the statistics of each layer's units over those photos that are `done`.

    What it holds depends, to the last bit, only on which photos were added, not on the order or the grouping.
    """

    def __init__(self, key: Key, device: torch.device | str = "cpu") -> None:
        self.key = key
        self.done = torch.zeros(key.photo_count, dtype=torch.bool)
        """(photos,) those that were mined or could not be read."""
        self.skipped: dict[int, str] = {}
        """Indices of photos that could not be read, with the reason."""
        self.strongest = {name: RunningTopK(units, key.top, device) for name, units in key.layers.items()}
        self.statistics = {name: Statistics(units, key.class_count) for name, units in key.layers.items()}
        self._whole = True

    @property
    def read(self) -> int:
        """How many photos were read."""
        return int(self.done.sum()) - len(self.skipped)

    @property
    def left(self) -> Tensor:
        """(n,) indices of the photos that are not done, ascending."""
        return (~self.done).nonzero().flatten()

    def add(
        self, images: Tensor, found: Mapping[str, tuple[Tensor, Tensor]], labels: Tensor, skipped: dict[int, str]
    ) -> None:
        """Take in photos that are not done: indices `images` (n,), class numbers `labels` (n,), and by layer their maxima
        (n, units) and the maxima's row-major places (n, units); and photos that could not be read.
        """
        self._whole = False
        for name, (maxima, places) in found.items():
            self.strongest[name].add(maxima.T, images.to(maxima.device), places.T)
            self.statistics[name].add(maxima.cpu(), labels)
        self.skipped |= skipped
        self.done[images] = True
        self.done[list(skipped)] = True
        self._whole = True

    def merge(self, other: "State") -> None:
        """Take in a state of the same key over other photos. Raises `DeconvnetError` if it is not one."""
        if different := self.key.differences(other.key):
            raise DeconvnetError(f"States of one search were expected, but one was mined with {different}.")
        if twice := int((self.done & other.done).sum()):
            raise DeconvnetError(f"{twice:,} photos were mined twice: states of disjoint photos were expected.")
        self._whole = False
        for name in self.key.layers:
            self.strongest[name].merge(other.strongest[name])
            self.statistics[name].merge(other.statistics[name])
        self.skipped = dict(sorted((self.skipped | other.skipped).items()))
        self.done |= other.done
        self._whole = True

    def to(self, device: torch.device | str) -> Self:
        """Move the running top-k, which is added to on the network's device; returns the state."""
        for kept in self.strongest.values():
            kept.to(device)
        return self

    def to_bytes(self) -> bytes:
        """The content of a state file (docs/file-formats.md), which depends on what the state holds and on nothing else."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}
        description = {"format": _FORMAT, "key": self.key.as_json(), "skipped": sorted(self.skipped.items())}
        return save(tensors, {_ENTRY: json.dumps(description)})

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> Self:
        """The state that `to_bytes` wrote; `source` names it in errors.

        Raises `DeconvnetError` if it is something else, or not whole.
        """
        try:
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            description = json.loads(header["__metadata__"][_ENTRY])
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise DeconvnetError(f"{source} is not a whole state file of mining: mine it again.") from None
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            raise DeconvnetError(f"{source} was written by another version of deconvnet: mine it again.")
        try:
            state = cls(Key.from_json(description["key"]))
            state.skipped = {int(index): str(reason) for index, reason in description["skipped"]}
            state._fill(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DeconvnetError(f"{source} is a damaged state file ({error}): mine it again.") from None
        return state

    def _tensors(self) -> dict[str, Tensor]:
        """All that it holds but the skipped photos, as the state file names it."""
        found = {"done": self.done}
        for name in self.key.layers:
            parts = self.strongest[name].tensors() | self.statistics[name].tensors()
            found |= {f"{name}/{part}": value for part, value in parts.items()}
        return found

    def _fill(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors in place; raises `ValueError` or `KeyError` for any that do not fit."""
        for name, place in self._tensors().items():
            if tensors[name].shape != place.shape or tensors[name].dtype != place.dtype:
                raise ValueError(f"{name} is {tensors[name].dtype} {tuple(tensors[name].shape)}")
            place.copy_(tensors[name])
        for name, kept in self.strongest.items():
            images = kept.images[kept.images >= 0]
            if not ((images < self.key.photo_count).all() and self.done[images].all() and (kept.places >= 0).all()):
                raise ValueError(f"{name} has hits in photos that were not mined")
        if not all(0 <= index < self.key.photo_count for index in self.skipped):
            raise ValueError("it skipped photos that do not exist")

    def save(self, file: Path) -> None:
        """Write the state to `file`, whole or not at all. Raises `DeconvnetError` if it cannot be written.

        A state that was interrupted while it changed is not written: what was saved before stays.
        """
        if self._whole:
            atomic_write(file, self.to_bytes())

    @classmethod
    def load(cls, file: Path, key: Key | None = None) -> Self:
        """Read a state file. Raises `DeconvnetError` if it cannot be read, is none, or is not of `key`."""
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            raise DeconvnetError(f"There is no file {file}.") from None
        except OSError as error:
            raise DeconvnetError(f"{file} cannot be read: {error.strerror}.") from None
        state = cls.from_bytes(content, str(file))
        if key is not None and (different := key.differences(state.key)):
            raise DeconvnetError(
                f"{file} was mined with {different}: finish it with the command that began it, or remove it."
            )
        return state


def share(photos: Tensor, part: int, of: int, grain: int) -> Tensor:
    """Part number `part`, from 0, of `of` nearly equal parts of the indices `photos` (n,), cut at multiples of `grain`."""
    blocks = photos // grain
    return photos[torch.isin(blocks, torch.tensor(sorted(set(blocks.tolist()))).tensor_split(of)[part])]


def _answers(network: Network, layers: list[str]) -> dict[str, list[float]]:
    """The largest activations in a picture of noise, of up to 32 units of each layer."""
    size = network.preprocessing.crop
    noise = torch.randint(256, (size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found: dict[str, list[float]] = {}

    def keep(name: str, maps: Tensor) -> None:
        maxima = maps[0].flatten(1).amax(dim=1)
        found[name] = maxima[:: -(-len(maxima) // 32)].tolist()

    with torch.inference_mode():
        network.capture(network.preprocess(Image.fromarray(noise.numpy()))[None], layers, keep)
    return found


def _agree(first: list[float], second: list[float]) -> bool:
    """Whether they are the same but for rounding."""
    return len(first) == len(second) and np.allclose(first, second, rtol=0, atol=1e-3 * np.abs(first).max(), equal_nan=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
