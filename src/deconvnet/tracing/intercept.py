"""Run a module, capture the outputs of its activation functions, and substitute functions where rules say so.

A `TorchFunctionMode` sees every torch function that the module calls, however the call is spelt, and may run another in its
place. The module itself is not changed: no hook, no swapped submodule. Only its training flags are set to evaluation during
the run, and hooks that others have left for backward passes are put aside; both are restored afterwards.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import local_response_norm
from deconvnet.tracing.cpu_kernels import convolve, linear
from deconvnet.tracing.ops.activations import explain_refusal, is_activation, is_other_activation, match_relu
from deconvnet.tracing.ops.metadata import (
    changes_input,
    is_assignment,
    is_constant_creation,
    is_hook_registration,
    is_metadata_access,
)
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm
from deconvnet.tracing.ops.pointwise import split_dim
from deconvnet.tracing.ops.sliding_window import match_max_pooling
from deconvnet.tracing.ops.spellings import function_name, standard_call


@dataclass(frozen=True)
class Rules:
    """Functions to run in place of a module's; None keeps the module's own."""

    rectify: Callable[[Tensor, float | None, bool], Tensor] | None = None
    """In place of a ReLU: (input, ceiling or None, in place) → output."""
    normalise: Callable[..., Tensor] | None = None
    """In place of local response normalisation: (the function that computes it, its arguments) → output."""
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
        self.activation_count = 0
        self.written: list[Tensor] = []
        """Tensors that were no signals until an in-place call wrote one into their memory, which others may share."""

    def _is_signal(self, tensor: Tensor) -> bool:
        if getattr(tensor, "_depends_on_input", False):
            return True
        return any(tensor.untyped_storage()._cdata == other.untyped_storage()._cdata for other in self.written)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        func, args, kwargs = standard_call(func, args, kwargs or {}, self._is_signal)
        if is_hook_registration(func):
            return no_hook(func)
        if is_metadata_access(func):
            value = func(*args, **kwargs)
            return _WithoutHooks(value) if isinstance(value, torch.autograd.graph.Node) else value
        is_layer = is_activation(func, args, kwargs)
        run = self._run_with_rules
        output = self.partial(func, args, kwargs, run) if self.partial else run(func, args, kwargs)
        if any(map(self._is_signal, iter_tensors((args, kwargs)))) and not is_constant_creation(func):
            result = args[0] if is_assignment(func) else output
            if changes_input(func) or "out" in kwargs:
                self.written += [tensor for tensor in iter_tensors(result) if not self._is_signal(tensor)]
            mark_signals(result)
        if is_layer:
            self.activation_count += 1
            if self.callback(self.activation_count - 1, output):
                raise StopForward
        return output

    def _run_with_rules(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        relu = match_relu(func, args, kwargs)
        if relu is not None and self.rules.rectify:
            return self.rules.rectify(relu.input, relu.ceiling, relu.inplace)
        if self.rules.refuse_other_activations and is_other_activation(func):
            raise DeconvnetError(explain_refusal(func))
        if is_local_response_norm(func):
            normalisation = local_response_norm if func is F.local_response_norm else func
            return (self.rules.normalise or _call)(normalisation, *args, **kwargs)
        pooling = match_max_pooling(func)
        if self.rules.pool and pooling:
            output, switches = self.rules.pool(pooling, *args, **kwargs)
            return (output, switches) if func is pooling else output
        if func in _FAST_KERNELS and not torch.is_autocast_enabled(next(iter_tensors((args, kwargs))).device.type):
            return _FAST_KERNELS[func](*args, **kwargs)
        return _as_separate_views(func(*args, **kwargs), func, args, kwargs)


def _call(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return func(*args, **kwargs)


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
) -> Any:
    """Run `module` on `x` in evaluation mode, calling `callback(n, output)` for its n-th activation function (from 0).

    The run ends as soon as `callback` returns True. The module may overwrite the output once `callback` has returned: use it
    at once or copy it. With `partial`, `x` are the crops that it runs on, and the outputs are cropped too. Returns what the
    module returns, or None if the callback ended the run.
    """
    mark_signals(x)
    with evaluation_mode(module):
        try:
            with _InterceptMode(callback, rules or Rules(), partial):
                return module(x)
        except StopForward:
            return None


def mark_signals(value: Any) -> None:
    """Mark the tensors in `value` as depending on the network's input."""
    for tensor in iter_tensors(value):
        tensor._depends_on_input = True  # type: ignore[attr-defined]


class _WithoutHooks:
    """A node of autograd's graph on which hooks can be registered without effect."""

    def __init__(self, node: torch.autograd.graph.Node) -> None:
        self._node = node

    def register_hook(self, _: Any) -> RemovableHandle:
        """Does nothing."""
        return RemovableHandle(OrderedDict())

    register_prehook = register_hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def no_hook(func: Callable[..., Any]) -> RemovableHandle | None:
    """What the registration of a hook returns that is not registered: it is of no use here, or would change signals."""
    return None if function_name(func) == "retain_grad" else RemovableHandle(OrderedDict())


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, fixed batch statistics) within, and no hooks on backward passes, which change signals.

    Afterwards each submodule has its previous mode and hooks again. Hooks on forward passes are part of what it computes.
    """
    training = [submodule for submodule in module.modules() if submodule.training]
    hooks = [hooks for hooks in _backward_hooks(module) if hooks]
    kept = [dict(each) for each in hooks]
    for submodule in training:
        submodule.training = False
    for each in hooks:
        each.clear()
    try:
        yield
    finally:
        for submodule in training:
            submodule.training = True
        for each, before in zip(hooks, kept, strict=True):
            each.update(before)


def _backward_hooks(module: nn.Module) -> Iterator[dict[int, Any]]:
    """The hooks on backward passes of each submodule and of all modules there are."""
    yield module_hooks._global_backward_hooks
    yield module_hooks._global_backward_pre_hooks
    for submodule in module.modules():
        for name in ("_backward_hooks", "_backward_pre_hooks"):
            yield vars(submodule).get(name, {})
