"""AlexNet and ZFNet with few maps, otherwise unchanged: the same layers, input, classes and options, 20 times as fast."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deconvnet.models import (
    ARCHITECTURES,
    AlexNet2012,
    AlexNetOptions,
    Network,
    ZFNet,
    ZFNetOptions,
    load,
    loading,
    save_weights,
)
from deconvnet.models.init import init_normal
from deconvnet.models.registry_entry import Architecture

#: Maps of each convolutional layer; enough for the units that the documents name.
MAPS = 32


def thin(module: nn.Module) -> None:
    """Give each convolutional layer `MAPS` maps, and every layer the inputs that result."""
    inputs, flattened = 3, False
    for name, layer in list(module.named_children()):
        if isinstance(layer, nn.Conv2d):
            geometry = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
            setattr(module, name, nn.Conv2d(inputs, MAPS, layer.kernel_size, **geometry))
            inputs = MAPS
        elif isinstance(layer, nn.Linear):
            setattr(module, name, nn.Linear(inputs if flattened else inputs * 6 * 6, layer.out_features))
            inputs, flattened = layer.out_features, True
    init_normal(module)


class ThinAlexNet(AlexNet2012):
    def __init__(self, options: AlexNetOptions | None = None) -> None:
        super().__init__(options)
        thin(self)


class ThinZFNet(ZFNet):
    def __init__(self, options: ZFNetOptions | None = None) -> None:
        super().__init__(options)
        thin(self)


#: Replacements for the networks of these names.
THIN: dict[str, Architecture] = {
    "alexnet2012": replace(ARCHITECTURES["alexnet2012"], build=ThinAlexNet),
    "zfnet": replace(ARCHITECTURES["zfnet"], build=ThinZFNet),
}


def write_thin_weights(folder: Path) -> dict[str, Path]:
    """Write replacements for the bundled weights: random weights that let signals through, and the same metadata."""
    files = {}
    for name in THIN:
        bundled = load(name)  # not thin: this is called before anything is replaced
        module = THIN[name].build(bundled.module.options)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        network = Network(
            module.eval(),
            bundled.preprocessing,
            name=name,
            weights=bundled.weights,
            classes=bundled.classes,
            layer_names=list(bundled.layers),
        )
        files[name] = folder / f"{name}-thin.safetensors"
        save_weights(network, files[name], torch.float16)
    return files


def use_thin_networks(patch: pytest.MonkeyPatch, weights: dict[str, Path]) -> None:
    """Replace the networks of these names by thin ones with `weights`, the files of `write_thin_weights`."""
    for name in weights:
        patch.setitem(ARCHITECTURES, name, THIN[name])
    bundled_weights = loading.bundled_weights
    patch.setattr(
        loading,
        "bundled_weights",
        lambda name, keyword: (file := bundled_weights(name, keyword)) and weights.get(name, file),
    )
