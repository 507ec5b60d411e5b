"""Table 3's twelve networks: what they are, what the paper measured, and how large they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from deconvnet.models.architecture import without_weights
from deconvnet.models.registry import untrained


@dataclass(frozen=True)
class Errors:
    """Shares of photos that are classified wrongly, from 0 to 1."""

    train_top1: float
    val_top1: float
    val_top5: float


@dataclass(frozen=True)
class Variant:
    """One row of Table 3."""

    label: str
    change: str
    """What is different, in the paper's words."""
    network: str
    options: Mapping[str, Any]
    """Of the network, where they differ from its defaults."""
    paper: Errors
    """What the paper measured on ImageNet 2012, of a network with 1,000 classes."""


#: Table 3, row by row. (Two training errors are equal, without layer 7 and without 6 and 7: that is how it is printed.)
VARIANTS = tuple(
    Variant(label, change, network, options, Errors(*(round(percent / 100, 3) for percent in percents)))
    for label, change, network, options, percents in (
        ("alexnet2012", "Krizhevsky et al. 2012", "alexnet2012", {}, (35.1, 40.5, 18.1)),
        ("alexnet2012-no34", "removed layers 3,4", "alexnet2012", {"removed": (3, 4)}, (41.8, 45.4, 22.1)),
        ("alexnet2012-no7", "removed layer 7", "alexnet2012", {"removed": (7,)}, (27.4, 40.0, 18.4)),
        ("alexnet2012-no67", "removed layers 6,7", "alexnet2012", {"removed": (6, 7)}, (27.4, 44.8, 22.4)),
        ("alexnet2012-no3467", "removed layers 3,4,6,7", "alexnet2012", {"removed": (3, 4, 6, 7)}, (71.1, 71.3, 50.1)),
        ("alexnet2012-fc2048", "layers 6,7: 2048 units", "alexnet2012", {"hidden": 2048}, (40.3, 41.7, 18.8)),
        ("alexnet2012-fc8192", "layers 6,7: 8192 units", "alexnet2012", {"hidden": 8192}, (26.8, 40.0, 18.1)),
        ("zfnet", "our model (Fig. 3)", "zfnet", {}, (33.1, 38.4, 16.5)),
        ("zfnet-fc2048", "layers 6,7: 2048 units", "zfnet", {"hidden": 2048}, (38.2, 40.2, 17.6)),
        ("zfnet-fc8192", "layers 6,7: 8192 units", "zfnet", {"hidden": 8192}, (22.0, 38.8, 17.0)),
        ("zfnet-wide", "layers 3,4,5: 512,1024,512 maps", "zfnet-wide", {}, (18.8, 37.5, 16.0)),
        ("zfnet-wide-fc8192", "6,7: 8192 and 3,4,5: 512,1024,512", "zfnet-wide", {"hidden": 8192}, (10.0, 38.3, 16.9)),
    )
)


@dataclass(frozen=True)
class Size:
    """How large a network is, and what it costs to run it on one view."""

    parameters: int
    multiply_adds: int
    """Of convolutions and full connections."""
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each layer (units, rows, columns), or (units,) if it is fully connected."""


def size(variant: Variant, options: Mapping[str, Any] | None = None) -> Size:
    """How large a variant is, with `options` where they are not what it varies. No memory is taken for its weights.

    Raises `UsageError` for options that its network does not have.
    """
    with without_weights():
        net = untrained(variant.network, {**(options or {}), **variant.options})
        layers = net.layers
    parameters = dict(net.module.named_parameters())
    # A weight is used once at every place of its layer's maps; those of fc8, which has no ReLU, once.
    places = {name: prod(layer.map_size) for name, layer in layers.items()}
    return Size(
        parameters=sum(tensor.numel() for tensor in parameters.values()),
        multiply_adds=sum(
            tensor.numel() * places.get(name.removesuffix(".weight"), 1)
            for name, tensor in parameters.items()
            if name.endswith(".weight")
        ),
        layers={
            name: (layer.units, *layer.map_size) if layer.convolutional else (layer.units,) for name, layer in layers.items()
        },
    )
