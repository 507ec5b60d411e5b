"""AlexNet and ZFNet with few maps and otherwise as they are: the same layers, input, classes and options, at a twentieth of
the work.
"""

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
    save_weights,
)
from deconvnet.models import registry as catalogue
from deconvnet.models.architecture import Architecture
from deconvnet.models.init import initialise

#: Maps of each convolutional layer; the units that pages name are among them.
MAPS = 32


def thin(module: nn.Module) -> None:
    """Give each convolutional layer `MAPS` maps, and each layer after them the inputs that are left."""
    inputs, after = 3, False
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Conv2d):
            sizes = {"stride": part.stride, "padding": part.padding, "groups": part.groups}
            setattr(module, name, nn.Conv2d(inputs, MAPS, part.kernel_size, **sizes))
            inputs = MAPS
        elif isinstance(part, nn.Linear):
            setattr(module, name, nn.Linear(inputs if after else inputs * 6 * 6, part.out_features))
            inputs, after = part.out_features, True
    initialise(module)


class ThinAlexNet(AlexNet2012):
    def __init__(self, options: AlexNetOptions | None = None) -> None:
        super().__init__(options)
        thin(self)


class ThinZFNet(ZFNet):
    def __init__(self, options: ZFNetOptions | None = None) -> None:
        super().__init__(options)
        thin(self)


#: What stands in for the networks of these names.
THIN: dict[str, Architecture] = {
    "alexnet2012": replace(ARCHITECTURES["alexnet2012"], build=ThinAlexNet),
    "zfnet": replace(ARCHITECTURES["zfnet"], build=ThinZFNet),
}


def write_thin_weights(folder: Path) -> dict[str, Path]:
    """Files in place of those that come along: random weights that let signals through, and all else as in the files."""
    files = {}
    for name in THIN:
        whole = load(name)  # not thin: this is called before anything is replaced
        module = THIN[name].build(whole.module.options)
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)
        network = Network(
            module.eval(),
            whole.preprocessing,
            name=name,
            weights=whole.weights,
            classes=whole.classes,
            layer_names=list(whole.layers),
        )
        files[name] = folder / f"{name}-thin.safetensors"
        save_weights(network, files[name], torch.float16)
    return files


def use_thin_networks(patched: pytest.MonkeyPatch, weights: dict[str, Path]) -> None:
    """Let `weights`, as `write_thin_weights` has written them, stand in for the networks of their names."""
    for name in weights:
        patched.setitem(ARCHITECTURES, name, THIN[name])
    bundled_weights = catalogue.bundled_weights
    patched.setattr(
        catalogue, "bundled", lambda name, keyword: (file := bundled_weights(name, keyword)) and weights.get(name, file)
    )
