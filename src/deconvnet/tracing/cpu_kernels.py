"""Convolutions whose way down to a few channels, such as a photo's three, is quick.

PyTorch's transposed convolution takes four times as long there as another way to compute the same. With a stride s, the
pixels of one phase (every s-th row and column) get what an ordinary convolution of the signal by every s-th weight gives;
so one convolution with s·s times as many maps makes all phases, and these are then shuffled together.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels up to which it is quicker.
_FEW = 4


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`. Where its input has few channels and needs a gradient on a CPU, its weights get none."""
    strides, paddings = _pair(stride), _pair(padding)
    quick = (
        input.requires_grad
        and input.dim() == 4
        and input.device.type == "cpu"
        and weight.shape[1] <= _FEW
        and weight.is_leaf
        and (bias is None or bias.is_leaf)
        and not weight.is_complex()
        and groups == 1
        and _pair(dilation) == (1, 1)
        and strides is not None
        and strides[0] == strides[1]
        and paddings is not None
    )
    if quick:
        output: Tensor = _Convolve.apply(input, weight.detach(), None if bias is None else bias.detach(), strides, paddings)
        return output
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride[0], padding, (x.shape[2], x.shape[3])
        return torch.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        return transposed(signal, weight, ctx.stride, ctx.padding, ctx.size), None, None, None, None


def transposed(signal: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What a convolution's transpose makes of `signal` (N, maps, rows, columns), cut or filled up with zeros to `size`.

    `weight` (maps, channels, k, l) is the convolution's.
    """
    maps, channels, *kernel = weight.shape
    rows, columns = (-(-side // stride) for side in kernel)  # weights of each phase
    weight = F.pad(weight, (0, columns * stride - kernel[1], 0, rows * stride - kernel[0]))
    phases = weight.view(maps, channels, rows, stride, columns, stride).permute(1, 3, 5, 0, 2, 4)
    phases = phases.reshape(channels * stride * stride, maps, rows, columns).flip(2, 3)
    pixels = F.pixel_shuffle(F.conv2d(signal, phases, padding=(rows - 1, columns - 1)), stride)
    top, left = padding
    pixels = pixels[..., top : top + size[0], left : left + size[1]]
    return F.pad(pixels, (0, size[1] - pixels.shape[3], 0, size[0] - pixels.shape[2]))


def _pair(value: Any) -> tuple[int, int] | None:
    """Rows and columns; None for what a string says."""
    if isinstance(value, str):
        return None
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[-1])


#: oneDNN's product, which `torch.compile` uses too; None where a build of PyTorch has none.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`. Without a gradient on a CPU by oneDNN: MKL, which PyTorch takes, is half as fast on AMD's processors."""
    quick = (
        _ONEDNN is not None
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
        and input.dim() == 2
        and len(input) > 1
        and input.device.type == "cpu"
        and all(_is_plain(tensor) for tensor in (input, weight))
        and (bias is None or (_is_plain(bias) and bias.dim() == 1 and bias.is_contiguous()))  # whose strides it ignores
        and not torch.is_autocast_enabled("cpu")
    )
    if quick:
        output: Tensor = _ONEDNN(input, weight, bias, "none", [], "")
        return output
    return F.linear(input, weight, bias)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is of PyTorch's own type, in float32, and holds something."""
    own = type(tensor) in (Tensor, nn.Parameter)
    return own and tensor.dtype == torch.float32 and tensor.layout is torch.strided and tensor.numel() > 0
