"""How long a report will take on this machine, and how much disk: measured speeds times what each command does."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from deconvnet.images import Photos, UnreadableImage
from deconvnet.networks import Network

#: Photos that are read, and inputs that go through a network at once, to measure how fast.
_TRIED = 16

#: One photo forward and backward, and its update, take about as long as this many forward alone.
_TRAINING = 3.5

#: A projection takes about as long as reading its photo and this many passes of it; its picture is drawn and written too.
_PROJECTING = 1.5

#: Seconds that loading a network, drawing and writing take of each command.
_ASIDE = 3.0

#: Bytes that a command leaves in pictures and numbers, and an atlas for each projection.
_RESULT, _PROJECTION = 3_000_000, 6_000


@dataclass(frozen=True)
class Work:
    """What a command does, in photos."""

    reads: int = 0
    passes: Mapping[str, float] = field(default_factory=dict)
    """By network."""
    projections: Mapping[str, int] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)
    """Photos shown in all epochs together."""
    bytes: int = _RESULT


@dataclass(frozen=True)
class Speeds:
    """Seconds for a photo on this machine."""

    read: float
    passes: Mapping[str, float]
    """By network."""

    @classmethod
    def measure(cls, networks: Mapping[str, Network], photos: Photos) -> "Speeds":
        """Read a few photos, and run each network on a few of them."""
        first = next(iter(networks.values()))
        return cls(
            _seconds(lambda: [_read(first, photos, index) for index in range(min(_TRIED, len(photos)))], _TRIED),
            {role: _seconds(lambda network=network: _run(network), _TRIED) for role, network in networks.items()},  # type: ignore[misc]
        )

    def seconds(self, work: Work) -> float:
        """About how long `work` takes."""
        found = _ASIDE + work.reads * self.read
        for role, each in self.passes.items():
            found += each * (work.passes.get(role, 0) + _TRAINING * work.trained.get(role, 0))
            found += work.projections.get(role, 0) * (self.read + _PROJECTING * each)
        return found


def bytes_of_atlas(projections: int) -> int:
    """About how much an atlas takes."""
    return _RESULT + projections * _PROJECTION


def _seconds(act: Callable[[], object], count: int) -> float:
    took = []
    for _ in range(3):  # the first includes what only the first time takes; others may be disturbed
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return min(took) / count


def _read(network: Network, photos: Photos, index: int) -> object:
    try:
        return network.preprocess(photos.read(index))
    except UnreadableImage:
        return None


def _run(network: Network) -> None:
    size = network.preprocessing.crop
    inputs = torch.zeros(_TRIED, 3, size, size)
    with torch.inference_mode():
        network.observe(inputs, list(network.layers), lambda name, maps: None)
    if network.device.type == "cuda":
        torch.cuda.synchronize()
