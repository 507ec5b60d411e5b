"""The layers of any module, with their receptive fields, from one forward pass that records what is called.

A layer is a place in the network whose output is observed after its ReLU and before pooling, as in the paper.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.tracing.intercept import evaluation_mode
from deconvnet.tracing.ops.activations import is_other_activation, match_relu
from deconvnet.tracing.ops.arguments import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm, uses_batch_statistics
from deconvnet.tracing.ops.spatial import (
    SlidingWindowCall,
    Window,
    is_about_shape,
    is_assignment,
    is_constant,
    is_linear,
    is_metadata_access,
    is_pointwise,
    match_sliding_window,
    supports_cropping,
)
from deconvnet.tracing.receptive_field import Axis, ReceptiveField


@dataclass(frozen=True, repr=False)
class Layer:
    """One place in a network whose output can be observed."""

    name: str
    index: int
    """Which ReLU of the forward pass it is, from 0; those that see nothing of the input are counted and are no layers."""
    units: int
    """Feature maps of a convolutional layer, neurons of a fully connected one."""
    map_size: tuple[int, int]
    """Rows and columns of its feature maps; (1, 1) for a fully connected layer."""
    convolutional: bool
    field: ReceptiveField

    def __repr__(self) -> str:
        maps, field = ("×".join(map(str, size)) for size in (self.map_size, self.field.size))
        return f"<Layer {self.name}: {self.units} units, feature map {maps}, receptive field {field}>"


@dataclass(frozen=True)
class Step:
    """One torch call of the forward pass, as far as it carries signals: tensors that depend on the network's input."""

    func: Callable[..., Any]
    inputs: tuple[int | None, ...]
    """For each tensor among its arguments the number of the signal that it is, or None."""
    outputs: tuple[int, ...]
    """Numbers of the signals that it makes; that of an input if it works in place."""
    window: Window | None
    """The window that it slides over its first input."""
    croppable: bool
    """Can it be run on a cut-out of its inputs alone?"""
    work: int
    """Multiplications for each place of its output; counted for convolutions only."""
    weight: Tensor | None
    """What its input is multiplied by, if it is a convolution or a fully connected layer's product."""
    layer: int | None
    """Which layer it is, if it is a ReLU."""
    ruled: bool
    """Does the paper say how to pass it on the way down? If not, its gradient is what is used."""
    made: int
    """How many of the outputs it returns; the others change by sharing memory with these."""
    returns: type
    """`Tensor`, `tuple` or `list`."""
    opaque: bool
    """Does it turn signals into Python values, or into something other than tensors? Nothing can stand in for that."""


@dataclass(frozen=True)
class Trace:
    """What one forward pass showed of a module."""

    layers: tuple[Layer, ...]
    """In the order in which they run."""
    steps: tuple[Step, ...]
    """Every torch call, in order."""
    shapes: tuple[torch.Size, ...]
    """Of the signals; number 0 is the input."""

    def functions_without_rule(self, layer: int) -> list[str]:
        """Names of the functions up to a layer's ReLU for which the paper has no rule, such as the product in a gate."""
        end = next(number for number, step in enumerate(self.steps) if step.layer == layer)
        needed, names = set(self.steps[end].outputs), set()
        for step in reversed(self.steps[: end + 1]):
            if needed.intersection(step.outputs):
                needed.update(number for number in step.inputs if number is not None)
                if not step.ruled:
                    names.add(getattr(step.func, "__name__", "?").strip("_"))
        return sorted(names)


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
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(module), _Tracer(module, x) as tracer, tracer.paths():
        result = module(x)
    made = list(iter_tensors(result))
    if made and all(tracer.number(tensor) is None for tensor in made):
        raise DeconvnetError(
            "A part of this network hides what it computes (a scripted function, say, or a way through NumPy), so no "
            "deconvnet can be attached to it."
        )
    if not tracer.layers:
        others = sorted({step.func.__name__.strip("_") for step in tracer.steps if is_other_activation(step.func)})
        instead = f" ({', '.join(others)} instead)" if others else ""
        raise DeconvnetError(
            f"No ReLU was met in this network{instead}, so it has no layer that a deconvnet could start from."
        )
    times = Counter(layer.name for layer in tracer.layers)
    seen: Counter[str] = Counter()
    named = []
    for layer in tracer.layers:
        seen[layer.name] += 1
        named.append(replace(layer, name=f"{layer.name}#{seen[layer.name]}") if times[layer.name] > 1 else layer)
    return Trace(tuple(named), tuple(tracer.steps), tuple(tracer.shapes))


class _Tracer(TorchFunctionMode):
    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.names = {part: name for name, part in module.named_modules()}
        self.stack: list[nn.Module] = []
        self.layers: list[Layer] = []
        self.relus = 0
        self.height, self.width = x.shape[-2:]
        self.whole = ReceptiveField.whole(self.height, self.width)
        self.steps: list[Step] = []
        self.shapes = [x.shape]
        self.fields = [ReceptiveField(Axis(), Axis(), self.height, self.width)]
        # Keyed by id, so the tensors are held to keep their ids from being used again.
        self.signals = {id(x): (x, 0)}
        #: Memory that held no signal until a call in place wrote one there.
        self.written: dict[int, int] = {}

    @contextmanager
    def paths(self) -> Iterator[None]:
        """Know which submodule is running, by hooks on the process that no module sees."""
        enter = register_module_forward_pre_hook(lambda part, _: self.stack.append(part))
        leave = register_module_forward_hook(lambda part, *_: self._leave(), always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    def _leave(self) -> None:  # what a hook returns would become the module's output
        self.stack.pop()

    def _part(self) -> str:
        """The path of the submodule that is running."""
        return self.names.get(self.stack[-1], "") if self.stack else ""

    def _path(self) -> str:
        functional = not (self.stack and isinstance(self.stack[-1], nn.ReLU | nn.ReLU6 | nn.Hardtanh | nn.Threshold))
        return f"{self._part()}.relu".lstrip(".") if functional else self._part()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if is_metadata_access(func):
            return func(*args, **kwargs)
        if uses_batch_statistics(func, args, kwargs):
            raise DeconvnetError(
                f"The batch normalisation {self._part()!r} goes by the photos that happen to be in a batch (it tracks no "
                "running statistics), so what the network makes of one photo depends on the others: it cannot be looked at."
            )
        # Everything is read before the call: an in-place function changes its input and returns it.
        tensors = list(iter_tensors((args, kwargs)))
        known = [(tensor.shape, self.number(tensor)) for tensor in tensors]
        relu = match_relu(func, args, kwargs)
        self.relus += relu is not None
        output = func(*args, **kwargs)
        result = args[0] if is_assignment(func) else output
        self._follow(func, args, kwargs, tensors, known, result, relu is not None)
        if relu is not None and self.number(output) is not None:
            self._record(output)
        return output

    def number(self, tensor: Tensor) -> int | None:
        """The number of the signal that a tensor is, or None."""
        if id(tensor) not in self.signals and self.written and (memory := _memory(tensor)) in self.written:
            self.signals[id(tensor)] = (tensor, self.written[memory])
        return self.signals[id(tensor)][1] if id(tensor) in self.signals else None

    def _follow(
        self,
        func: Callable[..., Any],
        args: Args,
        kwargs: Kwargs,
        tensors: list[Tensor],
        known: list[tuple[torch.Size, int | None]],
        result: Any,
        rectifies: bool,
    ) -> None:
        """Note the call as a step, and its outputs as signals with their receptive fields."""
        signals = [(shape, number) for shape, number in known if number is not None]
        outputs = list(iter_tensors(result)) if signals and not is_constant(func) else []
        plain = isinstance(result, Tensor) or type(result) in (tuple, list)
        opaque = bool(signals) and not plain and not is_about_shape(func)
        moved = match_sliding_window(func, args, kwargs) if outputs else None
        staying = moved is None and all(
            is_pointwise(func, args, kwargs, shape, output) for shape, _ in signals for output in outputs
        )
        if moved is not None and moved.unpadded is not None:
            croppable = len(outputs) == 1 and known[0][1] is not None and len(signals) == 1
        else:
            constants = [tensor for tensor, (_, number) in zip(tensors, known, strict=True) if number is None]
            croppable = staying and all(supports_cropping(func, output, constants) for output in outputs)
        changed = [output for output in outputs if any(output is tensor for tensor in tensors)]
        fresh = [output for output in changed if self.number(output) is None]
        field = self._field_after(moved, staying and not fresh, [number for _, number in signals])
        numbers = [self._note(output, field) for output in outputs]
        for output in fresh:
            self.written[_memory(output)] = self.signals[id(output)][1]
        shared = self._sharing(changed)
        for number in shared:
            self.fields[number] = self.fields[number].joined(field)
        product = bool(outputs) and func in (torch.conv2d, F.linear) and known[0][1] is not None and known[1][1] is None
        weight = tensors[1] if product else None
        known_to_rules = rectifies or is_other_activation(func) or is_local_response_norm(func)
        ruled = not outputs or known_to_rules or is_linear(func, len(signals))
        self.steps.append(
            Step(
                func,
                inputs=tuple(number for _, number in known),
                outputs=(*numbers, *shared),
                window=moved.window if moved is not None else None,
                croppable=croppable and not shared and not fresh,
                work=tensors[1].numel() if func is torch.conv2d and outputs else 0,
                weight=weight,
                layer=self.relus - 1 if rectifies else None,
                ruled=ruled,
                made=len(numbers),
                returns=Tensor if isinstance(result, Tensor) else type(result),
                opaque=opaque,
            )
        )

    def _note(self, output: Tensor, field: ReceptiveField) -> int:
        """Note a tensor as a signal with this field; returns its number, the one that it had if it was one."""
        number = self.number(output)
        if number is None:
            number = len(self.fields)
            self.fields.append(field)
            self.shapes.append(output.shape)
            self.signals[id(output)] = (output, number)
        self.fields[number] = field
        return number

    def _sharing(self, changed: list[Tensor]) -> list[int]:
        """Other signals that change too when a call works in place, because they are views of the same memory."""
        if not changed:
            return []
        memory, own = _memory(changed[0]), {self.number(tensor) for tensor in changed}
        sharing = {number for tensor, number in self.signals.values() if _memory(tensor) == memory}
        return sorted(sharing - own)

    def _field_after(self, moved: SlidingWindowCall | None, staying: bool, signals: list[int]) -> ReceptiveField:
        if moved is not None and len(signals) == 1:
            return self.fields[signals[0]].through_window(*moved.window)
        if not staying or not signals:
            return self.whole
        return reduce(ReceptiveField.joined, (self.fields[number] for number in signals))

    def _record(self, output: Tensor) -> None:
        field = self.fields[self.signals[id(output)][1]]
        if output.dim() not in (2, 4) or len(output) != 1:
            raise DeconvnetError(
                f"The ReLU {self._path()} gives a tensor of shape {tuple(output.shape)}: only feature maps (N, C, H, W) and "
                "vectors (N, C) can be looked at, N being the images."
            )
        convolutional = output.dim() == 4
        size = (output.shape[2], output.shape[3]) if convolutional else (1, 1)
        self.layers.append(Layer(self._path(), self.relus - 1, output.shape[1], size, convolutional, field))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
