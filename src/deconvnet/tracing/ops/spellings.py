"""One spelling of each call, whatever the module writes: the one that the other tables know.

Exported modules call `torch.ops.aten`, with its names and, here and there, its order of arguments. And a maximum with zero
is a ReLU.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from deconvnet.tracing.ops.nested_tensors import Args, Call, Kwargs


def standard_call(func: Callable[..., Any], args: Args, kwargs: Kwargs, is_signal: Callable[[Tensor], bool]) -> Call:
    """The same call, spelt as the other tables know it. `is_signal` says which tensors depend on the network's input."""
    if isinstance(func, OpOverload | OpOverloadPacket):
        func, args, kwargs = _from_aten(func, args, kwargs)
    if func in _MAXIMA:
        signal = _rectified(*args, is_signal=is_signal, **kwargs)
        if signal is not None:
            return torch.relu, (signal,), {}
    if func is torch.prelu and len(args) == 2 and not is_signal(args[1]) and _is_all_zero(args[1]):
        return torch.relu, args[:1], {}
    if func in _CLAMPS:
        return _with_number(func, args, kwargs, is_signal)
    return func, args, kwargs


def function_name(func: Callable[..., Any]) -> str:
    """The name of a function or method of torch, without that of an overload."""
    return getattr(func, "__name__", "").partition(".")[0]


_MAXIMA = frozenset([torch.maximum, Tensor.maximum, torch.max, Tensor.max])


def _rectified(
    input: Tensor, other: Any = None, *others: Any, is_signal: Callable[[Tensor], bool], **options: Any
) -> Tensor | None:
    """The signal of which the call is the maximum with zeros; None for other calls."""
    if others or options or not isinstance(other, Tensor) or is_signal(input) == is_signal(other):
        return None
    signal, constant = (input, other) if is_signal(input) else (other, input)
    return signal if _is_zero(constant, signal) else None


_CLAMPS = frozenset(
    [
        *(torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_, Tensor.clamp_, torch.clip_, Tensor.clip_),
        *(torch.clamp_min, Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_),
    ]
)


def _with_number(func: Callable[..., Any], args: Args, kwargs: Kwargs, is_signal: Callable[[Tensor], bool]) -> Call:
    """A clamp of a signal from below to a tensor of zeros, to the number zero."""
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    is_number = not isinstance(high, Tensor)  # a clamp takes two numbers or two tensors
    if not (isinstance(low, Tensor) and args and is_number) or is_signal(low) or not _is_zero(low, args[0]):
        return func, args, kwargs
    return (func, (args[0], 0, *args[2:]), kwargs) if len(args) > 1 else (func, args, kwargs | {"min": 0})


def _is_all_zero(constant: Tensor) -> bool:
    return not constant.is_meta and not constant.any()


def _is_zero(constant: Tensor, signal: Tensor) -> bool:
    """Is a tensor all zeros, and the signal's shape and type that of both together?"""
    if torch.result_type(signal, constant) != signal.dtype or not _is_all_zero(constant):
        return False
    shape: torch.Size = torch.broadcast_shapes(signal.shape, constant.shape)  # type: ignore[no-untyped-call]
    return shape == signal.shape


def _from_aten(func: OpOverload | OpOverloadPacket, args: Args, kwargs: Kwargs) -> Call:
    """An operator of `torch.ops.aten` as the function of PyTorch that does the same; others, and what has none, as it is."""
    name = function_name(func)
    if str(func).partition(".")[0] != "aten":
        return func, args, kwargs
    if reorder := _REORDERED.get(name):
        return reorder(*args, **kwargs) or (func, args, kwargs)
    function = _BY_NAME.get(name) or getattr(torch, name, None) or getattr(Tensor, name, None)
    return (func, args, kwargs) if function is None else (function, args, kwargs)


#: Operators that have no function of their name in `torch`, or another one.
_BY_NAME: dict[str, Callable[..., Any]] = {
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d_with_indices,
    "avg_pool2d": F.avg_pool2d,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "hardtanh_": F.hardtanh_,
    "leaky_relu": F.leaky_relu,
    "leaky_relu_": F.leaky_relu_,
    "linear": F.linear,
    "max_pool2d_with_indices": F.max_pool2d_with_indices,
    "mish": F.mish,
    "pad": F.pad,
    "relu6": F.relu6,
    "silu": F.silu,
}


def _batch_norm(
    input: Tensor,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Call:
    return F.batch_norm, (input, running_mean, running_var, weight, bias, training, momentum, eps), {}


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Call | None:
    if input.dim() != 4:
        return None
    if transposed:
        return torch.conv_transpose2d, (input, weight, bias, stride, padding, output_padding, groups, dilation), {}
    return torch.conv2d, (input, weight, bias, stride, padding, dilation, groups), {}


def _pad_with(mode: str) -> Callable[..., Call]:
    def pad(input: Tensor, pad: Any) -> Call:
        return F.pad, (input, pad, mode), {}

    return pad


def _constant_pad(input: Tensor, pad: Any, value: Any = 0) -> Call:
    return F.pad, (input, pad, "constant", value), {}


#: Operators that take their arguments in another order than the function; None for a call that has no function.
_REORDERED: dict[str, Callable[..., Call | None]] = {
    "batch_norm": _batch_norm,
    "constant_pad_nd": _constant_pad,
    "convolution": _convolution,
    "reflection_pad2d": _pad_with("reflect"),
    "replication_pad2d": _pad_with("replicate"),
}
