"""The twelve networks of Table 3: options, sizes, and the paper's errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from deconvnet.models import build_untrained
from deconvnet.models.registry_entry import without_weights


@dataclass(frozen=True)
class Errors:
    """Error rates, 0 to 1."""

    train_top1: float
    val_top1: float
    val_top5: float


@dataclass(frozen=True)
class Variant:
    """One row of Table 3."""

    label: str
    change: str
    """The change from the original network, in the paper's words."""
    network: str
    """Name of the architecture."""
    options: Mapping[str, Any]
    """The network's options that differ from its defaults."""
    paper: Errors
    """The paper's errors on ImageNet 2012, with 1,000 classes."""


#: Table 3, row by row. (The training errors without layer 7 and without layers 6 and 7 are printed as equal.)
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
class NetworkSize:
    """The size of a network, and the cost of one forward pass on one view."""

    parameters: int
    multiply_adds: int
    """Multiply-adds of convolutional and fully connected layers."""
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By layer: (units, rows, columns), or (units,) if it is fully connected."""


def network_size(variant: Variant, options: Mapping[str, Any] | None = None) -> NetworkSize:
    """The size of a variant with these network options, except those that it changes. Allocates no weights.

    Raises `UsageError` for options that its network does not have.
    """
    with without_weights():
        net = build_untrained(variant.network, {**(options or {}), **variant.options})
        layers = net.layers
    parameters = dict(net.module.named_parameters())
    # Each weight is used once at every position of its layer's map. fc8 is not among the layers, as it has no ReLU.
    positions = {name: prod(layer.map_size) for name, layer in layers.items()}
    return NetworkSize(
        parameters=sum(tensor.numel() for tensor in parameters.values()),
        multiply_adds=sum(
            tensor.numel() * positions.get(name.removesuffix(".weight"), 1)
            for name, tensor in parameters.items()
            if name.endswith(".weight")
        ),
        layers={
            name: (layer.units, *layer.map_size) if layer.convolutional else (layer.units,) for name, layer in layers.items()
        },
    )
