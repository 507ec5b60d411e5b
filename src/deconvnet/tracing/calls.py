"""What a torch function call does, read from the call itself: is it a ReLU, a normalisation, a sliding window?

The same operation has many spellings (`nn.ReLU`, `F.relu`, `x.relu_()`, `x.clamp(min=0)`); all of them arrive here as a
function and its arguments. Each table maps a function to a small one with the same signature, so that Python itself
sorts positional from keyword arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.receptive_field import Pair

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Rectification:
    """A ReLU, perhaps cut off at `ceiling` (ReLU6), perhaps in place."""

    input: Tensor
    ceiling: float | None
    inplace: bool


def _relu(input: Tensor, inplace: bool = False) -> Rectification:
    return Rectification(input, None, inplace)


def _relu_(input: Tensor) -> Rectification:
    return Rectification(input, None, True)


def _relu6(input: Tensor, inplace: bool = False) -> Rectification:
    return Rectification(input, 6.0, inplace)


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Rectification | None:
    return Rectification(input, max_val, inplace) if min_val == 0 else None


def _clamp(input: Tensor, min: Any = None, max: Any = None, out: Any = None, inplace: bool = False) -> Rectification | None:
    if out is None and isinstance(min, int | float) and min == 0 and not isinstance(max, Tensor):
        return Rectification(input, max, inplace)
    return None


def _clamp_(input: Tensor, min: Any = None, max: Any = None) -> Rectification | None:
    return _clamp(input, min, max, inplace=True)


_RECTIFICATIONS: dict[Callable[..., Any], Callable[..., Rectification | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    torch.Tensor.relu: _relu,
    torch.relu_: _relu_,
    torch.Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    torch.Tensor.clamp: _clamp,
    torch.clip: _clamp,
    torch.Tensor.clip: _clamp,
    torch.clamp_min: _clamp,
    torch.Tensor.clamp_min: _clamp,
    torch.clamp_: _clamp_,
    torch.Tensor.clamp_: _clamp_,
    torch.clip_: _clamp_,
    torch.Tensor.clip_: _clamp_,
    torch.clamp_min_: _clamp_,
    torch.Tensor.clamp_min_: _clamp_,
}


def rectification(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Rectification | None:
    """The ReLU that this call is, or None."""
    read = _RECTIFICATIONS.get(func)
    return read(*args, **kwargs) if read else None


def is_contrast_normalisation(func: Callable[..., Any]) -> bool:
    """Is the function a normalisation across feature maps (Krizhevsky et al. 2012, section 3.3)?"""
    return func is F.local_response_norm


_MAX_POOLINGS: dict[Callable[..., Any], Callable[..., tuple[Tensor, Tensor]]] = {
    F.max_pool2d: F.max_pool2d_with_indices,
    F.max_pool2d_with_indices: F.max_pool2d_with_indices,
    torch.max_pool2d: F.max_pool2d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool2d_with_indices: F.adaptive_max_pool2d_with_indices,
}


def pooling_with_switches(func: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The function that takes a max pooling's arguments and gives its switches too; None for any other function."""
    return _MAX_POOLINGS.get(func)


_SMOOTHED_RELUS = frozenset([F.silu, F.gelu, F.mish, F.hardswish])


def is_smoothed_relu(func: Callable[..., Any]) -> bool:
    """Does the function stand where a ReLU would, but is none?"""
    return func in _SMOOTHED_RELUS


class Window(NamedTuple):
    """A sliding window: (rows, columns) of its kernel, stride, padding and dilation."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


def _pair(value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def _conv2d(
    input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Window:
    kernel, dilation = (weight.shape[2], weight.shape[3]), _pair(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":  # the odd pixel goes to the far side, as torch does
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    return Window(kernel, _pair(stride), _pair(padding), dilation)


def _pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any, **__: Any
) -> Window:
    return Window(
        _pair(kernel_size), _pair(kernel_size if stride in (None, [], ()) else stride), _pair(padding), _pair(dilation)
    )


def _average_pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any) -> Window:
    return _pool(input, kernel_size, stride, padding)


def _adaptive_pool(input: Tensor, output_size: Any, *_: Any, **__: Any) -> Window | None:
    sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    found = tuple(input.shape[-2:])
    wanted = tuple(have if want is None else want for want, have in zip(sizes, found, strict=True))
    if any(have % want for have, want in zip(found, wanted, strict=True)):
        return None  # windows of unlike sizes
    kernel = (found[0] // wanted[0], found[1] // wanted[1])
    return Window(kernel, kernel, (0, 0), (1, 1))


_WINDOWS: dict[Callable[..., Any], Callable[..., Window | None]] = {
    torch.conv2d: _conv2d,
    F.max_pool2d: _pool,
    F.max_pool2d_with_indices: _pool,
    torch.max_pool2d: _pool,
    F.avg_pool2d: _average_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d_with_indices: _adaptive_pool,
}


def window(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Window | None:
    """The sliding window that this call moves over its first argument, or None."""
    read = _WINDOWS.get(func)
    return read(*args, **kwargs) if read else None


#: Functions, by name, whose output at a place depends on their inputs at that place alone (whatever happens across
#: channels). `cat`, `chunk` and the like are here only if they work along channels.
_POINTWISE = frozenset(
    """
    relu relu_ relu6 hardtanh clamp clamp_ clip clip_ clamp_min clamp_min_ threshold leaky_relu prelu elu selu gelu silu mish
    sigmoid sigmoid_ tanh hardswish hardsigmoid add add_ __add__ __iadd__ __radd__ sub sub_ __sub__ __isub__ __rsub__
    mul mul_ __mul__ __imul__ __rmul__ div div_ __truediv__ __itruediv__ true_divide rsub neg abs square pow __pow__
    sqrt rsqrt exp maximum minimum batch_norm local_response_norm dropout dropout_ dropout2d feature_dropout
    alpha_dropout contiguous clone detach detach_ to float double half bfloat16 type
    """.split()
)
_ALONG_CHANNELS = frozenset(["cat", "concat", "concatenate", "chunk", "split"])


def is_pointwise(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    """Does the output at a place depend on the inputs at that place alone?"""
    name = getattr(func, "__name__", "")
    if name in _ALONG_CHANNELS:
        position = 1 if name.startswith("con") or name == "cat" else 2
        return (args[position] if len(args) > position else kwargs.get("dim", kwargs.get("axis", 0))) in (1, -3)
    return name in _POINTWISE
