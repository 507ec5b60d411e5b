"""Replacements for two torch functions that are slow on CPUs, with the same arguments and results up to rounding.

`convolve` replaces `torch.conv2d`, whose backward pass is slow for inputs of few channels, such as pixels. `linear` replaces
`F.linear`, which is slow on AMD's processors. What a kernel is not made for, it passes on to torch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.tracing.ops.sliding_window import as_pair

#: `convolve` is faster for inputs of up to so many channels.
_MAX_CHANNELS = 4

#: oneDNN's matrix product, which `torch.compile` uses too; None for a build of PyTorch without it.
_ONEDNN_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`, with a backward pass about four times as fast if the input has few channels on a CPU.

    In that case weights get no gradient.
    """
    is_supported = (
        input.requires_grad
        and input.dim() == 4
        and has_fast_transpose(input, weight, stride, padding, dilation, groups)
        and weight.is_leaf
        and (bias is None or bias.is_leaf)
    )
    if is_supported:
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        output: Tensor = _Convolve.apply(input, weight, bias, as_pair(stride), as_pair(padding))
        return output
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def has_fast_transpose(signal: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether `conv_transpose` is made for a convolution with these arguments, and faster than torch, on the device of
    `signal`.
    """
    strides = as_pair(stride)
    return (
        signal.device.type == "cpu"
        and weight.shape[1] <= _MAX_CHANNELS
        and not weight.is_complex()
        and groups == 1
        and as_pair(dilation) == (1, 1)
        and strides[0] == strides[1]
        and not isinstance(padding, str)
    )


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
        return conv_transpose(signal, weight, ctx.stride, ctx.padding, ctx.size), None, None, None, None


def conv_transpose(signal: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The transpose of a convolution, applied to `signal` (N, maps, rows, columns): (N, channels, *size).

    `weight` (maps, channels, k, l) is the convolution's; pixels of `size` that no window read are zero. With a stride s,
    the pixels of one phase (every s-th row and column) are an ordinary convolution of the signal with every s-th weight. So
    one convolution with s·s times as many output channels computes all phases, which are then interleaved.
    """
    maps, channels, *kernel = weight.shape
    rows, columns = (-(-length // stride) for length in kernel)  # the kernel size of each phase
    weight = F.pad(weight, (0, columns * stride - kernel[1], 0, rows * stride - kernel[0]))
    phases = weight.view(maps, channels, rows, stride, columns, stride).permute(1, 3, 5, 0, 2, 4)
    phases = phases.reshape(channels * stride * stride, maps, rows, columns).flip(2, 3)
    pixels = F.pixel_shuffle(F.conv2d(signal, phases, padding=(rows - 1, columns - 1)), stride)
    top, left = padding
    pixels = pixels[..., top : top + size[0], left : left + size[1]]
    return F.pad(pixels, (0, size[1] - pixels.shape[3], 0, size[0] - pixels.shape[2]))


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by oneDNN if no gradient is needed on a CPU: MKL, PyTorch's choice, is half as fast on AMD CPUs."""
    is_supported = (
        _ONEDNN_LINEAR is not None
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
        and input.dim() == 2
        and len(input) > 1
        and input.device.type == "cpu"
        and all(_is_plain_float32(tensor) for tensor in (input, weight))
        and (bias is None or (_is_plain_float32(bias) and bias.dim() == 1 and bias.is_contiguous()))  # strides are ignored
        and not torch.is_autocast_enabled("cpu")
    )
    if is_supported:
        output: Tensor = _ONEDNN_LINEAR(input, weight, bias, "none", [], "")
        return output
    return F.linear(input, weight, bias)


def _is_plain_float32(tensor: Tensor) -> bool:
    """Whether a tensor is dense float32, not empty and of no custom subclass."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    return is_plain and tensor.dtype == torch.float32 and tensor.numel() > 0
