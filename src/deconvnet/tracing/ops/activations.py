"""Which torch calls are a ReLU, however it is spelt, and which are another activation function.

`nn.ReLU`, `F.relu`, `x.relu_()` and `x.clamp(min=0)` all arrive here as a function and its arguments. The table maps each
function to a parser with the same signature, so that Python itself sorts positional from keyword arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.ops.nested_tensors import Args, Kwargs


@dataclass(frozen=True)
class ReLUCall:
    """A ReLU, which may saturate at `ceiling` (ReLU6) and may work in place."""

    input: Tensor
    ceiling: float | None
    inplace: bool


def _relu(input: Tensor, inplace: bool = False) -> ReLUCall:
    return ReLUCall(input, None, inplace)


def _relu_(input: Tensor) -> ReLUCall:
    return ReLUCall(input, None, True)


def _relu6(input: Tensor, inplace: bool = False) -> ReLUCall:
    return ReLUCall(input, 6.0, inplace)


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> ReLUCall | None:
    return ReLUCall(input, max_val, inplace) if min_val == 0 else None


def _hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> ReLUCall | None:
    return _hardtanh(input, min_val, max_val, inplace=True)


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> ReLUCall | None:
    return ReLUCall(input, None, inplace) if threshold == value == 0 else None


def _clamp(input: Tensor, min: Any = None, max: Any = None, out: Any = None, inplace: bool = False) -> ReLUCall | None:
    if out is None and isinstance(min, int | float) and min == 0 and not isinstance(max, Tensor):
        return ReLUCall(input, max, inplace)
    return None


def _clamp_(input: Tensor, min: Any = None, max: Any = None) -> ReLUCall | None:
    return _clamp(input, min, max, inplace=True)


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> ReLUCall | None:
    return ReLUCall(input, None, inplace) if negative_slope == 0 else None


def _leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> ReLUCall | None:
    return _leaky_relu(input, negative_slope, inplace=True)


def _elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> ReLUCall | None:
    return ReLUCall(input, None, inplace) if alpha == 0 else None


def _rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Any:
    return ReLUCall(input, None, inplace) if lower == upper == 0 else None


#: Functions that are a ReLU for some arguments; the parser returns None for others.
_RELU_PARSERS: dict[Callable[..., Any], Callable[..., ReLUCall | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    torch.Tensor.relu: _relu,
    torch.relu_: _relu_,
    torch.Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    F.threshold: _threshold,
    F.leaky_relu: _leaky_relu,
    F.leaky_relu_: _leaky_relu_,
    F.elu: _elu,
    F.rrelu: _rrelu,
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


def match_relu(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> ReLUCall | None:
    """The call as a ReLU; None if it is not one."""
    parse = _RELU_PARSERS.get(func)
    return parse(*args, **kwargs) if parse else None


_OTHER_ACTIVATIONS = frozenset(
    [
        *(F.silu, F.gelu, F.mish, F.hardswish, F.leaky_relu, F.leaky_relu_, F.rrelu, F.rrelu_, torch.prelu),
        *(F.elu, F.elu_, F.celu, F.celu_, F.selu, F.selu_),
    ]
)


def is_activation(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    """Is the call an activation function: a ReLU, or what is used in its place?"""
    return match_relu(func, args, kwargs) is not None or is_other_activation(func)


def is_other_activation(func: Callable[..., Any]) -> bool:
    """Is the function used in place of a ReLU, but lets negative values through?"""
    return func in _OTHER_ACTIVATIONS


def explain_refusal(func: Callable[..., Any]) -> str:
    """Why a deconvnet cannot pass an activation function that is no ReLU, for an error."""
    return (
        f"This network uses {func.__name__.strip('_')}, for which the paper has no rule: its deconvnet rectifies, and this "
        "function lets negative values through. Its gradient needs no rule: project with the rules gradient."
    )
