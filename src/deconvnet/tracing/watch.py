"""Run a module and watch its layers go by, with other functions in place of some if rules say so.

A `TorchFunctionMode` sees every torch function that the module calls, however the call is spelt, and may answer with
another one. Nothing of the module is changed for that: no hook, no swapped submodule. Only its training flags are set to
evaluation while it runs, and put back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.tracing.calls import (
    Args,
    Kwargs,
    is_contrast_normalisation,
    is_smoothed_relu,
    pooling_with_switches,
    rectification,
)


@dataclass(frozen=True)
class Rules:
    """Functions to run in place of others; None keeps the original."""

    rectify: Callable[[Tensor, float | None, bool], Tensor] | None = None
    """In place of a ReLU: (input, ceiling or None, in place) → output."""
    normalise: Callable[..., Tensor] | None = None
    """In place of `local_response_norm`, with its arguments."""
    pool: Callable[..., tuple[Tensor, Tensor]] | None = None
    """In place of 2-d max pooling: (the pooling that gives its switches too, its arguments) → output, switches."""
    refuse_smooth: bool = False
    """Refuse activation functions that are smoothed ReLUs, for which there is no rule."""


class _Enough(Exception):
    """Raised inside the module's forward to end it once the last wanted layer has been seen."""


class _Watch(TorchFunctionMode):
    def __init__(self, visit: Callable[[int, Tensor], bool], rules: Rules) -> None:
        super().__init__()
        self.visit, self.rules, self.count = visit, rules, 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        relu = rectification(func, args, kwargs)
        if relu is None:
            if self.rules.refuse_smooth and is_smoothed_relu(func):
                raise DeconvnetError(
                    f"This network uses {func.__name__}, for which the paper has no rule: its deconvnet rectifies, and this "
                    "function lets negative values through. Its gradient needs no rule: project with the rules gradient."
                )
            if self.rules.normalise and is_contrast_normalisation(func):
                return self.rules.normalise(*args, **kwargs)
            pooling = pooling_with_switches(func)
            if self.rules.pool and pooling:
                output, switches = self.rules.pool(pooling, *args, **kwargs)
                return (output, switches) if func is pooling else output
            return func(*args, **kwargs)
        if self.rules.rectify:
            output = self.rules.rectify(relu.input, relu.ceiling, relu.inplace)
        else:
            output = func(*args, **kwargs)
        self.count += 1
        if self.visit(self.count - 1, output):
            raise _Enough
        return output


def watch(module: nn.Module, x: Tensor, visit: Callable[[int, Tensor], bool], rules: Rules | None = None) -> Tensor | None:
    """Run `module` on `x`, in evaluation mode, calling `visit(n, output)` for the n-th ReLU (from 0).

    `visit` returns True to end the pass there. What it is given may be overwritten by the module once it has returned:
    use it at once or copy it. Returns the module's output, or None if the pass was ended.
    """
    with evaluating(module):
        try:
            with _Watch(visit, rules or Rules()):
                output: Tensor = module(x)
                return output
        except _Enough:
            return None


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, fixed batch statistics) within; every submodule's own mode again afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 on a GPU within: without this cuDNN may round convolutions' inputs to TF32, about 1e-3."""
    settings: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
