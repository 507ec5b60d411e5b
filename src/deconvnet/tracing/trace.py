"""The layers of any module, with their receptive fields, from one forward pass that records what is called.

A layer is a place in the network whose output is observed after its ReLU and before pooling, as in the paper.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.tracing.calls import Args, Kwargs, is_pointwise, rectification, window
from deconvnet.tracing.receptive_field import Axis, ReceptiveField
from deconvnet.tracing.watch import evaluating


@dataclass(frozen=True)
class Layer:
    """One place in a network whose output can be observed."""

    name: str
    index: int
    """Which ReLU of the forward pass it is, from 0."""
    units: int
    """Feature maps of a convolutional layer, neurons of a fully connected one."""
    map_size: tuple[int, int]
    """Rows and columns of its feature maps; (1, 1) for a fully connected layer."""
    convolutional: bool
    field: ReceptiveField


@dataclass(frozen=True)
class Trace:
    """What one forward pass showed of a module."""

    layers: tuple[Layer, ...]
    """In the order in which they run."""
    filters: Tensor | None
    """The weights (units, 3, rows, columns) that turn pixels into the first layer, if a convolution does."""


def trace(module: nn.Module, x: Tensor) -> Trace:
    """Run `module` on `x` (1, 3, H, W) and describe its layers.

    A layer is named by the path of the module that called its ReLU; a path that makes several is numbered `#1`, `#2` ….
    Raises `DeconvnetError` for a module whose calls cannot be seen or that never rectifies.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise DeconvnetError(
            "A ScriptModule hides what it computes, so no deconvnet can be attached to it: pass the original nn.Module."
        )
    if any(hasattr(part, "_orig_mod") for part in module.modules()):
        raise DeconvnetError("A module compiled by torch.compile hides what it computes: pass the one that was compiled.")
    x = x.clone()  # a module may work on its input in place
    with torch.no_grad(), evaluating(module), _Tracer(module, x) as tracer, tracer.paths():
        module(x)
    if not tracer.layers:
        raise DeconvnetError("No ReLU was met in this network, so it has no layer that a deconvnet could start from.")
    times = Counter(layer.name for layer in tracer.layers)
    seen: Counter[str] = Counter()
    named = []
    for layer in tracer.layers:
        seen[layer.name] += 1
        named.append(replace(layer, name=f"{layer.name}#{seen[layer.name]}") if times[layer.name] > 1 else layer)
    filters, first = tracer.filters, named[0]
    if filters is not None and tuple(filters.shape) != (first.units, 3, *first.field.size):
        filters = None
    return Trace(tuple(named), filters)


class _Tracer(TorchFunctionMode):
    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.names = {part: name for name, part in module.named_modules()}
        self.stack: list[nn.Module] = []
        self.layers: list[Layer] = []
        self.filters: Tensor | None = None
        self.height, self.width = x.shape[-2:]
        self.whole = ReceptiveField.whole(self.height, self.width)
        # Keyed by id, so the tensors are held to keep their ids from being used again.
        self.fields = {id(x): (x, ReceptiveField(Axis(), Axis(), self.height, self.width))}

    @contextmanager
    def paths(self) -> Iterator[None]:
        """Know which submodule is running, by hooks on the process that no module sees."""
        enter = register_module_forward_pre_hook(lambda part, _: self.stack.append(part))
        leave = register_module_forward_hook(lambda part, *_: self._pop(), always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    def _pop(self) -> None:
        self.stack.pop()

    def _path(self) -> str:
        part = self.stack[-1]
        path = self.names.get(part, "")
        functional = not isinstance(part, nn.ReLU | nn.ReLU6 | nn.Hardtanh)
        return f"{path}.relu".lstrip(".") if functional else path

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        # Everything is read before the call: an in-place function changes its input and returns it.
        inputs = [(tuple(tensor.shape), self._field(tensor)) for tensor in _tensors((args, kwargs))]
        relu = rectification(func, args, kwargs)
        if func is torch.conv2d and self.filters is None:
            self.filters = args[1] if len(args) > 1 else kwargs["weight"]
        output = func(*args, **kwargs)
        for tensor in _tensors(output):
            field = self._field_after(func, args, kwargs, inputs, tensor)
            if field is not None:
                self.fields[id(tensor)] = (tensor, field)
        if relu is not None:
            self._record(output)
        return output

    def _field(self, tensor: Tensor) -> ReceptiveField | None:
        return self.fields[id(tensor)][1] if id(tensor) in self.fields else None

    def _field_after(
        self,
        func: Callable[..., Any],
        args: Args,
        kwargs: Kwargs,
        inputs: list[tuple[tuple[int, ...], ReceptiveField | None]],
        output: Tensor,
    ) -> ReceptiveField | None:
        """The receptive field of an output; None if it does not depend on the network's input."""
        known = [(shape, field) for shape, field in inputs if field is not None]
        if not known:
            return None
        field = known[0][1]
        moved = window(func, args, kwargs)
        if moved is not None:
            return field.through_window(*moved)
        same_place = all(len(shape) == 4 and shape[-2:] == output.shape[-2:] for shape, _ in known) and output.dim() == 4
        if not (same_place and is_pointwise(func, args, kwargs)):
            return self.whole
        for _, other in known[1:]:
            field = field.joined(other)
        return field

    def _record(self, output: Tensor) -> None:
        field = self._field(output) or self.whole
        if output.dim() not in (2, 4):
            raise DeconvnetError(
                f"The ReLU {self._path()} gives a tensor of shape {tuple(output.shape)}: only feature maps (N, C, H, W) and "
                "vectors (N, C) can be looked at."
            )
        convolutional = output.dim() == 4
        size = (output.shape[2], output.shape[3]) if convolutional else (1, 1)
        self.layers.append(Layer(self._path(), len(self.layers), output.shape[1], size, convolutional, field))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
