"""Run a module and watch its layers go by, with other functions in place of some if rules say so.

A `TorchFunctionMode` sees every torch function that the module calls, however the call is spelt, and may answer with
another one. Nothing of the module is changed for that: no hook, no swapped submodule. Only its training flags are set to
evaluation while it runs, and put back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import local_response_norm
from deconvnet.tracing.cpu_kernels import convolve, linear
from deconvnet.tracing.ops.activations import is_other_activation, match_relu
from deconvnet.tracing.ops.arguments import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm
from deconvnet.tracing.ops.spatial import is_metadata_access, match_max_pooling, split_dim


@dataclass(frozen=True)
class Rules:
    """Functions to run in place of others; None keeps the original."""

    rectify: Callable[[Tensor, float | None, bool], Tensor] | None = None
    """In place of a ReLU: (input, ceiling or None, in place) → output."""
    normalise: Callable[..., Tensor] | None = None
    """In place of `local_response_norm`, with its arguments."""
    pool: Callable[..., tuple[Tensor, Tensor]] | None = None
    """In place of 2-d max pooling: (the pooling that gives its switches too, its arguments) → output, switches."""
    refuse_other_activations: bool = False
    """Refuse SiLU, GELU, leaky ReLU and the like, for which there is no rule."""


#: Runs one torch call on a part of its input, `CroppedForward` or `IncrementalForward`: (function, args, kwargs, what runs it).
PartialForward = Callable[[Callable[..., Any], Args, Kwargs, Callable[..., Any]], Any]

#: What computes the same as some of torch's functions.
_QUICK: dict[Callable[..., Any], Callable[..., Tensor]] = {torch.conv2d: convolve, F.linear: linear}


class _Enough(BaseException):  # so that no module takes it for an error
    """Raised inside the module's forward to end it once the last wanted layer has been seen."""


class _InterceptMode(TorchFunctionMode):
    def __init__(self, callback: Callable[[int, Tensor], bool], rules: Rules, cut: PartialForward | None) -> None:
        super().__init__()
        self.callback, self.rules, self.cut, self.count = callback, rules, cut, 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if is_metadata_access(func):
            return func(*args, **kwargs)
        rectifies = match_relu(func, args, kwargs) is not None
        output = self.cut(func, args, kwargs, self._by_rules) if self.cut else self._by_rules(func, args, kwargs)
        if rectifies:
            self.count += 1
            if self.callback(self.count - 1, output):
                raise _Enough
        return output

    def _by_rules(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        relu = match_relu(func, args, kwargs)
        if relu is not None and self.rules.rectify:
            return self.rules.rectify(relu.input, relu.ceiling, relu.inplace)
        if self.rules.refuse_other_activations and is_other_activation(func):
            name = func.__name__.strip("_")
            raise DeconvnetError(
                f"This network uses {name}, for which the paper has no rule: its deconvnet rectifies, and this function "
                "lets negative values through. Its gradient needs no rule: project with the rules gradient."
            )
        if is_local_response_norm(func):
            return (self.rules.normalise or local_response_norm)(*args, **kwargs)
        pooling = match_max_pooling(func)
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
    whole = next(iter_tensors((args, kwargs)))
    ends = accumulate(part.shape[dim] for part in output)
    return tuple(whole.narrow(dim, end - part.shape[dim], part.shape[dim]) for part, end in zip(output, ends, strict=True))


def run_intercepted(
    module: nn.Module,
    x: Tensor,
    callback: Callable[[int, Tensor], bool],
    rules: Rules | None = None,
    cut: PartialForward | None = None,
) -> Tensor | None:
    """Run `module` on `x`, in evaluation mode, calling `callback(n, output)` for the n-th ReLU (from 0).

    `callback` returns True to end the pass there. What it is given may be overwritten by the module once it has returned:
    use it at once or copy it. With `cut`, `x` are its windows, and only what it asks for is computed. Returns
    the module's output, or None if the pass was ended.
    """
    with evaluation_mode(module):
        try:
            with _InterceptMode(callback, rules or Rules(), cut):
                output: Tensor = module(x)
                return output
        except _Enough:
            return None


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, fixed batch statistics) within; every submodule's own mode again afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


_lock = Lock()
_inside = 0
_before: list[str] = []


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 on a GPU within: without this cuDNN may round convolutions' inputs to TF32, about 1e-3.

    The settings are the process's: the first thread that comes in changes them, the last that goes puts them back.
    """
    global _inside, _before
    settings: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    with _lock:
        if not _inside:
            _before = [setting.fp32_precision for setting in settings]
            for setting in settings:
                setting.fp32_precision = "ieee"
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for setting, precision in zip(settings, _before, strict=True):
                    setting.fp32_precision = precision


def bfloat16_is_slow(device: torch.device) -> bool:
    """Whether `device` is an x86 processor without instructions for bfloat16 (AVX-512): each number is converted there and
    back, which takes many times as long as float32.
    """
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")
