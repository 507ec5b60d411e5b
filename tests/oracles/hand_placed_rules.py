"""Autograd with the paper's ReLU rule inserted by hand: for networks that are no chain, which `plain_deconvnet` cannot do.

Nothing is shared with the package. The rule stands wherever the network's source code has a ReLU: either the network is
written a second time with `relu` as an argument, or, for torchvision's, `with_rules` inserts it into a copy, class by class.
Everything else (convolutions, batch normalisation in evaluation mode, pooling, sums, concatenations) is autograd's.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConvolution
from torchvision.models.inception import BasicConv2d as InceptionConvolution


class _Rule(torch.autograd.Function):
    """Up: max(x, 0), at most `ceiling`. Down: the signal itself is rectified; where x was positive does not matter."""

    @staticmethod
    def forward(ctx, x, ceiling):
        return torch.where(x > 0, x, 0.0).minimum(torch.tensor(ceiling, dtype=x.dtype))

    @staticmethod
    def backward(ctx, signal):
        return torch.where(signal > 0, signal, 0.0), None


class Layers:
    """A `relu` that records its outputs, in the order of its calls, which is the order of the network's layers."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(self, x: Tensor, ceiling: float = float("inf")) -> Tensor:
        self.maps.append(_Rule.apply(x, ceiling))
        return self.maps[-1]


class _Relu(nn.Module):
    def __init__(self, layers: Layers, ceiling: float) -> None:
        super().__init__()
        self.layers, self.ceiling = layers, ceiling

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x, self.ceiling)


class _ConvolveNormaliseRectify(nn.Module):
    """GoogLeNet's and Inception's `BasicConv2d`, whose ReLU is a function."""

    def __init__(self, submodule: nn.Module, layers: Layers) -> None:
        super().__init__()
        self.submodule, self.layers = submodule, layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.submodule.bn(self.submodule.conv(x)))


def with_rules(module: nn.Module) -> Callable[[Tensor, Layers], Tensor]:
    """A function (input, layers) → output that runs a copy of one of torchvision's modules with the rule inserted."""

    def run(x: Tensor, layers: Layers) -> Tensor:
        swapped = deepcopy(module).eval()
        for parent in list(swapped.modules()):
            for name, submodule in list(parent.named_children()):
                if isinstance(submodule, nn.ReLU | nn.ReLU6):
                    setattr(parent, name, _Relu(layers, 6.0 if isinstance(submodule, nn.ReLU6) else float("inf")))
                elif isinstance(submodule, GoogLeNetConvolution | InceptionConvolution):
                    setattr(parent, name, _ConvolveNormaliseRectify(submodule, layers))
        if isinstance(swapped, DenseNet):  # its last ReLU is a function
            maps = layers(swapped.features(x))
            return swapped.classifier(maps.mean(dim=(2, 3)))
        return swapped(x)

    return run


class Deconvnet:
    """The layers of one input (1, 3, H, W), and projections of their activations."""

    def __init__(self, run: Callable[[Tensor, Layers], Tensor], x: Tensor) -> None:
        self.x = x.clone().requires_grad_()
        layers = Layers()
        with torch.enable_grad():
            run(self.x * 1, layers)  # not the leaf, which modules must not change in place
        self.maps = layers.maps

    def project(self, layer: int, unit: int, row: int, column: int) -> Tensor:
        """(3, H, W): the activation's own value sent down, all others of its layer zero."""
        maps = self.maps[layer]
        index = (0, unit, row, column)[: maps.dim()]
        signal = torch.zeros_like(maps)
        signal[index] = maps.detach()[index]
        (pixels,) = torch.autograd.grad(maps, self.x, signal, retain_graph=True)
        return pixels[0]
