"""Tensors that have a shape but no values, and the functions of a network for them: only their backward passes compute.

The backward pass of a convolution, a sum or a deconvnet's ReLU reads nothing of its inputs but their shapes. So where only
that pass is wanted, the forward pass need not compute: a placeholder goes in, a placeholder comes out.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.environment import memory_format
from deconvnet.tracing.cpu_kernels import conv_transpose, has_fast_transpose
from deconvnet.tracing.ops.activations import match_relu
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm
from deconvnet.tracing.ops.sliding_window import as_pair, pooling_window

Shape = tuple[int, ...] | torch.Size


def placeholder(like: Tensor, shape: Shape) -> Tensor:
    """A tensor of `shape` that takes neither memory nor time, all its values being one zero; otherwise like `like`.

    It is no view, unlike what `expand` returns: autograd lets only those be changed in place that are none.
    """
    result = torch.empty_strided(shape, (0,) * len(shape), dtype=like.dtype, device=like.device)
    if result.numel():
        result.as_strided((1,), (1,)).zero_()
    return result


def run_shape_only(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Run a call for the sake of its backward pass, which is the deconvnet's (section 2.1): a ReLU rectifies the signal,
    local response normalisation passes it on, all else is the transpose.

    The call must be linear, a ReLU or local response normalisation; its tensors may be placeholders. Raises `ValueError` for
    a view of a placeholder that is changed in place.
    """
    relu = match_relu(func, args, kwargs)
    if relu is not None:
        return _RectifyInPlace.apply(_no_view(relu.input)) if relu.inplace else _Rectify.apply(relu.input)
    if is_local_response_norm(func):
        return pass_on(args[0])
    if function := _FUNCTIONS.get(func):
        output = function(*args, **kwargs)
        if output is not None:
            return output
    return func(*args, **kwargs)


def unpool_by(switches: Tensor, args: Args, kwargs: Kwargs) -> Tensor:
    """A 2-d max pooling with the arguments `args` and `kwargs`, of whose backward pass the switches are known: signals of
    windows that share one are summed.

    `switches` (N, C, rows, columns) int64 are positions in the maps that it pools, in row-major order, as
    `F.max_pool2d_with_indices` returns them.
    """
    output: Tensor = _Unpool.apply(switches, *_pooling_arguments(*args, **kwargs))
    return output


def mask_signal(x: Tensor, mask: Tensor) -> Tensor:
    """A placeholder for `x`; on the way back the signal becomes zero where `mask` is True."""
    output: Tensor = _Scale.apply(x, mask.logical_not().to(x.dtype))  # `masked_fill` would copy the signal first
    return output


def pass_on(x: Tensor) -> Tensor:
    """A placeholder for `x`, which the signal passes as it is. Unlike a leaf it may be changed in place."""
    output: Tensor = _PassOn.apply(x)
    return output


def empty_maps(shape: Shape, like: Tensor) -> Tensor:
    """Uninitialised maps in the memory format that is fastest on the device; also to tell an operation what to return."""
    layout = memory_format(like.device) if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.arguments = x.shape, (stride, padding, dilation, groups)
        windows = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        sizes = [(length + 2 * p - d * (kernel - 1) - 1) // s + 1 for length, kernel, s, p, d in windows]
        return placeholder(x, (len(x), len(weight), *sizes))

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.arguments
        if has_fast_transpose(signal, weight, stride, padding, dilation, groups):
            size = (ctx.shape[2], ctx.shape[3])
            return conv_transpose(signal, weight, stride[0], padding, size), None, None, None, None, None
        x = empty_maps(ctx.shape, signal)
        pixels, _, _ = torch.ops.aten.convolution_backward(
            *(signal, x, weight, None, stride, padding, dilation, False, (0, 0), groups, (True, False, False))
        )
        return pixels, None, None, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return placeholder(x, (*x.shape[:-1], len(weight)))

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return signal @ weight, None


class _Scale(torch.autograd.Function):
    """A product with constants that broadcast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return placeholder(x, x.shape)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return signal * factors, None


class _PassOn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return placeholder(x, x.shape)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return signal


class _Rectify(_PassOn):
    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return signal.clamp(min=0)


class _RectifyInPlace(_Rectify):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        return placeholder(x, x.shape)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal, signal


class _AddInPlace(_Add):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in maps]
        return placeholder(maps[0], (len(maps[0]), sum(ctx.channels), *maps[0].shape[2:]))

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, ...]:
        return torch.split(signal, ctx.channels, dim=1)


class _Unpool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, switches: Tensor, x: Tensor, *pooling: Any) -> Tensor:
        ctx.save_for_backward(switches)
        ctx.shape, ctx.pooling = x.shape, pooling
        return placeholder(x, switches.shape)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        (switches,) = ctx.saved_tensors
        x = empty_maps(ctx.shape, signal)
        unpooled = torch.ops.aten.max_pool2d_with_indices_backward(signal, x, *ctx.pooling, switches)
        return None, unpooled, *(None for _ in ctx.pooling)


def _pooling_arguments(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Any, ...]:
    """The arguments of a max pooling as `max_pool2d_with_indices_backward` takes them."""
    return input, *pooling_window(kernel_size, stride, padding, dilation), ceil_mode


def _no_view(x: Tensor) -> Tensor:
    """`x`. Raises `ValueError` for a view, as autograd copies signals into memory of the base's strides, here 0."""
    if x._is_view():
        raise ValueError("A view of a placeholder is changed in place.")
    return x


# Each takes the arguments of the function that it replaces, and returns None for those that it is not made for.


def _conv2d(
    input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor | None:
    if input.dim() != 4 or isinstance(padding, str):
        return None
    output: Tensor = _Convolve.apply(input, weight.detach(), as_pair(stride), as_pair(padding), as_pair(dilation), groups)
    return output


def _linear(input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    output: Tensor = _Product.apply(input, weight.detach())
    return output


def _batch_norm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    factors = (running_var.detach() + eps).rsqrt()
    factors = factors if weight is None else factors * weight.detach()
    output: Tensor = _Scale.apply(input, factors.view(1, -1, *(1,) * (input.dim() - 2)))
    return output


def _add(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor | None:
    if not isinstance(other, Tensor) or input.shape != other.shape or alpha != 1:
        return None
    output: Tensor = _Add.apply(input, other)
    return output


def _add_in_place(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor | None:
    if not isinstance(other, Tensor) or input.shape != other.shape or alpha != 1:
        return None
    output: Tensor = _AddInPlace.apply(_no_view(input), other)
    return output


def _concatenate(tensors: Any, dim: int = 0, **_: Any) -> Tensor | None:
    maps = list(iter_tensors(tensors))
    if dim not in (1, -3) or any(x.dim() != 4 for x in maps):
        return None
    output: Tensor = _Concatenate.apply(*maps)
    return output


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    torch.conv2d: _conv2d,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    torch.add: _add,
    Tensor.add: _add,
    Tensor.__add__: _add,
    Tensor.__radd__: _add,
    Tensor.add_: _add_in_place,
    Tensor.__iadd__: _add_in_place,
    torch.cat: _concatenate,
}
