"""Projection as others do it: captum's NeuronDeconvolution, and a deconvnet written out with MaxUnpool2d.

Captum takes any network, and the path of the submodule whose output is projected. The other takes one whose `features` are
an `nn.Sequential` of convolutions, ReLUs (not in place) and max poolings, and the path of a ReLU in it.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    from captum.attr import NeuronDeconvolution
except ImportError:
    NeuronDeconvolution = None


def by_captum(model: nn.Module, end: str, x: Tensor, units: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """One activation of each of x (N, 3, H, W), as what 1 in its place would project to: (N, 3, H, W)."""
    each = torch.arange(len(x), device=x.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says each time that it sets hooks
        deconvolution = NeuronDeconvolution(model, model.get_submodule(end))
        return deconvolution.attribute(x.clone().requires_grad_(), lambda maps: maps[each, units, rows, columns])


@torch.no_grad()
def by_unpooling(model: nn.Module, end: str, x: Tensor, units: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """One activation of each of x (N, 3, H, W): (N, 3, H, W)."""
    features = model.get_submodule("features")[: int(end.removeprefix("features.")) + 1]
    sizes, switches = [], []
    for module in features:
        sizes.append(x.shape)
        if isinstance(module, nn.MaxPool2d):
            x, indices = F.max_pool2d(
                x, module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode, return_indices=True
            )
            switches.append(indices)
        else:
            x = module(x)
    signal = torch.zeros_like(x)
    chosen = torch.arange(len(x), device=x.device), units, rows, columns
    signal[chosen] = x[chosen]
    for module, size in zip(reversed(features), reversed(sizes), strict=True):
        if isinstance(module, nn.MaxPool2d):
            indices = switches.pop()
            signal = nn.MaxUnpool2d(module.kernel_size, module.stride, module.padding)(signal, indices, list(size))
        elif isinstance(module, nn.ReLU):
            signal = F.relu(signal)
        elif isinstance(module, nn.Conv2d):
            signal = _down(module, signal, size)
    return signal


def _down(convolution: nn.Conv2d, signal: Tensor, size: torch.Size) -> Tensor:
    """Through the transposed filters, to maps of `size`."""
    c = convolution
    stride, padding, dilation = c.stride, (int(c.padding[0]), int(c.padding[1])), c.dilation
    rest = [
        have - ((n - 1) * s - 2 * p + d * (k - 1) + 1)
        for have, n, s, p, d, k in zip(size[2:], signal.shape[2:], stride, padding, dilation, c.kernel_size, strict=True)
    ]
    return F.conv_transpose2d(signal, c.weight, None, stride, padding, rest, c.groups, dilation)
