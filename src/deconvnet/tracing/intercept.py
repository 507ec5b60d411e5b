"""Run a module, capture the outputs of its ReLUs, and substitute functions where rules say so.

A `TorchFunctionMode` sees every torch function that the module calls, however the call is spelt, and may run another in its
place. The module itself is not changed: no hook, no swapped submodule. Only its training flags are set to evaluation during
the run and restored afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import local_response_norm
from deconvnet.tracing.cpu_kernels import convolve, linear
from deconvnet.tracing.ops.activations import is_other_activation, match_relu
from deconvnet.tracing.ops.metadata import is_metadata_access
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm
from deconvnet.tracing.ops.pointwise import split_dim
from deconvnet.tracing.ops.sliding_window import match_max_pooling


@dataclass(frozen=True)
class Rules:
    """Functions to run in place of a module's; None keeps the module's own."""

    rectify: Callable[[Tensor, float | None, bool], Tensor] | None = None
    """In place of a ReLU: (input, ceiling or None, in place) → output."""
    normalise: Callable[..., Tensor] | None = None
    """In place of `local_response_norm`, with the same arguments."""
    pool: Callable[..., tuple[Tensor, Tensor]] | None = None
    """In place of 2-d max pooling: (pooling function that also returns switches, its arguments) → (output, switches)."""
    refuse_other_activations: bool = False
    """Refuse SiLU, GELU, leaky ReLU and the like, for which there is no rule."""


#: Runs one call of torch: (function, its args, its kwargs) → result.
RunCall = Callable[[Callable[..., Any], Args, Kwargs], Any]

#: Runs one call in part, on a crop or for its backward pass only, by means of a `RunCall`.
PartialForward = Callable[[Callable[..., Any], Args, Kwargs, RunCall], Any]

#: Faster functions that compute the same as torch's.
_FAST_KERNELS: dict[Callable[..., Any], Callable[..., Tensor]] = {torch.conv2d: convolve, F.linear: linear}


class StopForward(BaseException):  # not an Exception, which a module might catch
    """Raised inside a module's forward to end it once all that is wanted of it has been computed."""


class _InterceptMode(TorchFunctionMode):
    def __init__(self, callback: Callable[[int, Tensor], bool], rules: Rules, partial: PartialForward | None) -> None:
        super().__init__()
        self.callback, self.rules, self.partial = callback, rules, partial
        self.relu_count = 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if is_metadata_access(func):
            return func(*args, **kwargs)
        is_relu = match_relu(func, args, kwargs) is not None
        run = self._run_with_rules
        output = self.partial(func, args, kwargs, run) if self.partial else run(func, args, kwargs)
        if is_relu:
            self.relu_count += 1
            if self.callback(self.relu_count - 1, output):
                raise StopForward
        return output

    def _run_with_rules(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
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
        if func in _FAST_KERNELS:
            return _FAST_KERNELS[func](*args, **kwargs)
        return _as_separate_views(func(*args, **kwargs), func, args, kwargs)


def _as_separate_views(output: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The chunks of a split, each as an independent view: autograd lets only those be changed in place."""
    dim = split_dim(func, args, kwargs)
    if dim is None or not output[0].requires_grad:
        return output
    x = next(iter_tensors((args, kwargs)))
    sizes = [chunk.shape[dim] for chunk in output]
    return tuple(x.narrow(dim, end - size, size) for size, end in zip(sizes, accumulate(sizes), strict=True))


def run_intercepted(
    module: nn.Module,
    x: Tensor,
    callback: Callable[[int, Tensor], bool],
    rules: Rules | None = None,
    partial: PartialForward | None = None,
) -> Tensor | None:
    """Run `module` on `x` in evaluation mode, calling `callback(n, output)` for its n-th ReLU (from 0).

    The run ends as soon as `callback` returns True. The module may overwrite the output once `callback` has returned: use it
    at once or copy it. With `partial`, `x` are the crops that it runs on, and the outputs are cropped too. Returns the
    module's output, or None if the callback ended the run.
    """
    with evaluation_mode(module):
        try:
            with _InterceptMode(callback, rules or Rules(), partial):
                output: Tensor = module(x)
                return output
        except StopForward:
            return None


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, fixed batch statistics) within; afterwards each submodule has its previous mode again."""
    training = [submodule for submodule in module.modules() if submodule.training]
    for submodule in training:
        submodule.training = False
    try:
        yield
    finally:
        for submodule in training:
            submodule.training = True
