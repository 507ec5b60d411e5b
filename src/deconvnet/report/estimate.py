"""Estimate how long the commands of a report take on this machine, and how much disk they need."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from deconvnet.data import ImageSet
from deconvnet.mining import MiningKey, mine_remaining
from deconvnet.models import Network

#: Images that are mined to measure the speed.
_TIMED_IMAGES = 64

#: Cost of training on one image, relative to reading it and passing it through the network.
_TRAINING_COST = 3.5

#: Cost of one projection, its image read again and its picture drawn and written, relative to the same.
_PROJECTION_COST = 0.5

#: Seconds per command for loading a network, drawing and writing.
_COMMAND_OVERHEAD = 4.0

#: Bytes of pictures and numbers that a command writes, and bytes per projection of an atlas.
_RESULT_BYTES, _PROJECTION_BYTES = 3_000_000, 6_000


@dataclass(frozen=True)
class Workload:
    """What a command computes, by network ("alexnet", "zfnet"), and how much it writes."""

    forward_passes: Mapping[str, float] = field(default_factory=dict)
    """Images, or views of them, that go through the network."""
    projections: Mapping[str, int] = field(default_factory=dict)
    training_images: Mapping[str, float] = field(default_factory=dict)
    """Images shown in training, summed over epochs."""
    disk_bytes: int = _RESULT_BYTES


@dataclass(frozen=True)
class Speed:
    """How fast this machine is."""

    seconds_per_image: Mapping[str, float]
    """By network, for an image that is read and mined."""

    @classmethod
    def measure(cls, networks: Mapping[str, Network], image_set: ImageSet) -> "Speed":
        """Mine a few images twice and keep the faster time: the first run includes one-off costs."""
        seconds_per_image = {}
        indices = torch.arange(min(_TIMED_IMAGES, len(image_set)))
        for role, network in networks.items():
            seconds = []
            for _ in range(2):
                key = MiningKey.compute(network, image_set, network.convolutional_layers, 9)
                start = time.perf_counter()
                mine_remaining(network, image_set, key, indices=indices)
                seconds.append(time.perf_counter() - start)
            seconds_per_image[role] = min(seconds) / len(indices)
        return cls(seconds_per_image)

    def seconds(self, workload: Workload) -> float:
        """The estimated duration of a command."""
        return _COMMAND_OVERHEAD + sum(
            seconds
            * (
                workload.forward_passes.get(role, 0)
                + _TRAINING_COST * workload.training_images.get(role, 0)
                + _PROJECTION_COST * workload.projections.get(role, 0)
            )
            for role, seconds in self.seconds_per_image.items()
        )


def atlas_bytes(projections: int) -> int:
    """The estimated size of an atlas."""
    return _RESULT_BYTES + projections * _PROJECTION_BYTES
