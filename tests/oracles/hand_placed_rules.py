"""Autograd with the paper's rule for ReLU placed by hand: for networks that are no chain, which `plain_deconvnet` cannot do.

Nothing is shared with the package. The rule is called where a person who reads the network's code sees a ReLU: either the
network is written out again with `relu` as an argument, or, for torchvision's, `placed` puts it into a copy, class by class.
All else (convolutions, batch normalisation in evaluation mode, pooling, sums, concatenations) is autograd's own derivative.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConvolution
from torchvision.models.inception import BasicConv2d as InceptionConvolution


class _Rule(torch.autograd.Function):
    """Up: max(x, 0), at most `most`. Down: the signal itself is rectified; where x was positive plays no part."""

    @staticmethod
    def forward(ctx, x, most):
        return torch.where(x > 0, x, 0.0).minimum(torch.tensor(most, dtype=x.dtype))

    @staticmethod
    def backward(ctx, signal):
        return torch.where(signal > 0, signal, 0.0), None


class Layers:
    """A `relu` that keeps its outputs, in the order of its calls, which is the order of the network's layers."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(self, x: Tensor, most: float = float("inf")) -> Tensor:
        self.maps.append(_Rule.apply(x, most))
        return self.maps[-1]


class _Relu(nn.Module):
    def __init__(self, layers: Layers, most: float) -> None:
        super().__init__()
        self.layers, self.most = layers, most

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x, self.most)


class _ConvolveNormaliseRectify(nn.Module):
    """GoogLeNet's and Inception's `BasicConv2d`, whose ReLU is a function."""

    def __init__(self, part: nn.Module, layers: Layers) -> None:
        super().__init__()
        self.part, self.layers = part, layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.part.bn(self.part.conv(x)))


def placed(module: nn.Module) -> Callable[[Tensor, Layers], Tensor]:
    """A function (input, layers) → output that runs a copy of one of torchvision's modules with the rule in place."""

    def run(x: Tensor, layers: Layers) -> Tensor:
        swapped = deepcopy(module).eval()
        for parent in list(swapped.modules()):
            for name, part in list(parent.named_children()):
                if isinstance(part, nn.ReLU | nn.ReLU6):
                    setattr(parent, name, _Relu(layers, 6.0 if isinstance(part, nn.ReLU6) else float("inf")))
                elif isinstance(part, GoogLeNetConvolution | InceptionConvolution):
                    setattr(parent, name, _ConvolveNormaliseRectify(part, layers))
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
            run(self.x * 1, layers)  # not the leaf itself, which torchvision's modules could not change in place
        self.maps = layers.maps

    def project(self, layer: int, unit: int, row: int, column: int) -> Tensor:
        """(3, H, W): the activation's own value sent down, all others of its layer zero."""
        maps = self.maps[layer]
        place = (0, unit, row, column)[: maps.dim()]
        signal = torch.zeros_like(maps)
        signal[place] = maps.detach()[place]
        (down,) = torch.autograd.grad(maps, self.x, signal, retain_graph=True)
        return down[0]
