"""Run a module and watch its layers go by, with other functions in place of some if rules say so.

A `TorchFunctionMode` sees every torch function that the module calls, however the call is spelt, and may answer with
another one. Nothing of the module is changed for that: no hook, no swapped submodule. Only its training flags are set to
evaluation while it runs, and put back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.contrast_norm import local_response_norm
from deconvnet.errors import DeconvnetError
from deconvnet.tracing.calls import (
    Args,
    Kwargs,
    is_contrast_normalisation,
    is_relative_of_relu,
    pooling_with_switches,
    rectification,
)
from deconvnet.tracing.cone import CutOut
from deconvnet.tracing.convolve import convolve
from deconvnet.tracing.evaluating import evaluating
from deconvnet.tracing.linear import linear
from deconvnet.tracing.patched import Patched
from deconvnet.tracing.places import is_aside, split_dim
from deconvnet.tracing.trace import tensors_in


@dataclass(frozen=True)
class Rules:
    """Functions to run in place of others; None keeps the original."""

    rectify: Callable[[Tensor, float | None, bool], Tensor] | None = None
    """In place of a ReLU: (input, ceiling or None, in place) → output."""
    normalise: Callable[..., Tensor] | None = None
    """In place of `local_response_norm`, with its arguments."""
    pool: Callable[..., tuple[Tensor, Tensor]] | None = None
    """In place of 2-d max pooling: (the pooling that gives its switches too, its arguments) → output, switches."""
    refuse_relatives: bool = False
    """Refuse SiLU, GELU, leaky ReLU and the like, for which there is no rule."""


#: What computes the same as some of torch's functions.
_QUICK: dict[Callable[..., Any], Callable[..., Tensor]] = {torch.conv2d: convolve, F.linear: linear}


class _Enough(BaseException):  # so that no module takes it for an error
    """Raised inside the module's forward to end it once the last wanted layer has been seen."""


class _Watch(TorchFunctionMode):
    def __init__(self, visit: Callable[[int, Tensor], bool], rules: Rules, cut: CutOut | Patched | None) -> None:
        super().__init__()
        self.visit, self.rules, self.cut, self.count = visit, rules, cut, 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if is_aside(func):
            return func(*args, **kwargs)
        rectifies = rectification(func, args, kwargs) is not None
        output = self.cut(func, args, kwargs, self._by_rules) if self.cut else self._by_rules(func, args, kwargs)
        if rectifies:
            self.count += 1
            if self.visit(self.count - 1, output):
                raise _Enough
        return output

    def _by_rules(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        relu = rectification(func, args, kwargs)
        if relu is not None and self.rules.rectify:
            return self.rules.rectify(relu.input, relu.ceiling, relu.inplace)
        if self.rules.refuse_relatives and is_relative_of_relu(func):
            name = func.__name__.strip("_")
            raise DeconvnetError(
                f"This network uses {name}, for which the paper has no rule: its deconvnet rectifies, and this function "
                "lets negative values through. Its gradient needs no rule: project with the rules gradient."
            )
        if is_contrast_normalisation(func):
            return (self.rules.normalise or local_response_norm)(*args, **kwargs)
        pooling = pooling_with_switches(func)
        if self.rules.pool and pooling:
            output, switches = self.rules.pool(pooling, *args, **kwargs)
            return (output, switches) if func is pooling else output
        if func in _QUICK:
            return _QUICK[func](*args, **kwargs)
        return _one_view_each(func(*args, **kwargs), func, args, kwargs)


def _one_view_each(output: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The parts of a split as views of which each stands alone: autograd lets only those be changed in place."""
    dim = split_dim(func, args, kwargs)
    if dim is None or not output[0].requires_grad:
        return output
    whole = next(tensors_in((args, kwargs)))
    ends = accumulate(part.shape[dim] for part in output)
    return tuple(whole.narrow(dim, end - part.shape[dim], part.shape[dim]) for part, end in zip(output, ends, strict=True))


def watch(
    module: nn.Module,
    x: Tensor,
    visit: Callable[[int, Tensor], bool],
    rules: Rules | None = None,
    cut: CutOut | Patched | None = None,
) -> Tensor | None:
    """Run `module` on `x`, in evaluation mode, calling `visit(n, output)` for the n-th ReLU (from 0).

    `visit` returns True to end the pass there. What it is given may be overwritten by the module once it has returned:
    use it at once or copy it. With `cut`, `x` are its windows, and only what it asks for is computed. Returns
    the module's output, or None if the pass was ended.
    """
    with evaluating(module):
        try:
            with _Watch(visit, rules or Rules(), cut):
                output: Tensor = module(x)
                return output
        except _Enough:
            return None
