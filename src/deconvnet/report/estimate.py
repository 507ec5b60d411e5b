"""How long a report will take on this machine, and how much disk: measured speeds times what each command does."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from deconvnet.data import ImageSet
from deconvnet.mining import Key, State
from deconvnet.mining.mine import mine_images
from deconvnet.models import Network

#: Photos that are mined to measure how fast that is.
_TRIED = 64

#: One photo learnt from takes about as long as this many read and passed through the network.
_TRAINING = 3.5

#: One projection, with its photo read again and its picture drawn and written, takes about as long as this share of one.
_PROJECTING = 0.5

#: Seconds that loading a network, drawing and writing take of each command.
_ASIDE = 4.0

#: Bytes that a command leaves in pictures and numbers, and an atlas for each projection.
_RESULT, _PROJECTION = 3_000_000, 6_000


@dataclass(frozen=True)
class Work:
    """What a command does, by network."""

    passes: Mapping[str, float] = field(default_factory=dict)
    """Photos, or views of them, that go through it."""
    projections: Mapping[str, int] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)
    """Photos shown in all epochs together."""
    bytes: int = _RESULT


@dataclass(frozen=True)
class Speeds:
    """How fast this machine is."""

    photo: Mapping[str, float]
    """By network, seconds for a photo that is read and mined."""

    @classmethod
    def measure(cls, networks: Mapping[str, Network], image_set: ImageSet) -> "Speeds":
        """Mine a few photos, twice: the first time includes what only the first time takes."""
        found = {}
        some = torch.arange(min(_TRIED, len(image_set)))
        for role, network in networks.items():
            took = []
            for _ in range(2):
                state = State(Key.of(network, image_set, network.convolutional_layers, 9))
                start = time.perf_counter()
                mine_images(state, network, image_set, some)
                took.append(time.perf_counter() - start)
            found[role] = min(took) / len(some)
        return cls(found)

    def seconds(self, work: Work) -> float:
        """About how long `work` takes."""
        return _ASIDE + sum(
            each
            * (
                work.passes.get(role, 0)
                + _TRAINING * work.trained.get(role, 0)
                + _PROJECTING * work.projections.get(role, 0)
            )
            for role, each in self.photo.items()
        )


def bytes_of_atlas(projections: int) -> int:
    """About how much an atlas takes."""
    return _RESULT + projections * _PROJECTION
