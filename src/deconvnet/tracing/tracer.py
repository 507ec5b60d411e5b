"""Trace one forward pass of any module: a `TorchFunctionMode` sees every torch call on the way."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from deconvnet.errors import DeconvnetError
from deconvnet.tracing.code_location import first_of, line_of_code
from deconvnet.tracing.field_tracker import SignalField, TracedCall, fields_after, layer_field, nothing_known, write_through
from deconvnet.tracing.graph import Layer, Trace, TraceStep, number_duplicate_names
from deconvnet.tracing.intercept import evaluation_mode, no_hook
from deconvnet.tracing.module_output import find_output
from deconvnet.tracing.ops.activations import is_activation, match_relu
from deconvnet.tracing.ops.linearity import is_linear
from deconvnet.tracing.ops.metadata import (
    changes_input,
    has_no_gradient,
    is_assignment,
    is_constant_creation,
    is_hook_registration,
    is_metadata_access,
    is_shape_query,
    overwrites_input,
)
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_numbers, iter_tensors
from deconvnet.tracing.ops.normalisation import is_local_response_norm, is_over_last_dim, uses_batch_statistics
from deconvnet.tracing.ops.pointwise import is_elementwise, is_pointwise, is_reshaping, permuted_dims, supports_cropping
from deconvnet.tracing.ops.sliding_window import expects_channels_first, match_sliding_window
from deconvnet.tracing.ops.spellings import function_name, standard_call
from deconvnet.tracing.receptive_field import Axis, ReceptiveField


def trace(module: nn.Module, x: Tensor) -> Trace:
    """Run `module` on `x` (1, 3, H, W) and describe its layers.

    A layer is named by the path of the module that called its ReLU; if a path has several, they are numbered `#1`, `#2` ….
    In a module without ReLUs the layers are the outputs of what it has in their place, such as SiLU. Raises `DeconvnetError`
    for a module whose calls cannot be seen, that has neither, or that normalises by the statistics of the batch.
    """
    refuse_hidden_calls(module)
    x = x.clone()  # the module may change its input in place
    tracer = _Tracer(module, x)
    # The calls themselves run without gradients; that these are enabled here tells where the module disables them.
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(module), tracer, tracer.track_submodules():
        result = module(x)
    outputs = list(iter_tensors(result))
    if outputs and all(tracer.signal_of(tensor) is None for tensor in outputs):
        raise DeconvnetError(
            "A part of this network hides what it computes (a scripted function, say, or a way through NumPy), so no "
            "deconvnet can be attached to it."
        )
    layers = tracer.layers or tracer.other_layers
    if not layers:
        others = first_of(tracer.no_layers) if tracer.no_layers else ""
        raise DeconvnetError(
            f"No ReLU was met in this network{f' ({others})' if others else ''}, so it has no layer that a deconvnet could "
            "start from."
        )
    try:
        output_shape = find_output(result, len(x)).shape
    except DeconvnetError:
        output_shape = torch.Size()
    constants = tuple(tuple(float(constant) for constant in step) for step in tracer.constants)
    return Trace(
        tuple(number_duplicate_names(layers)),
        tuple(tracer.steps),
        tuple(tracer.shapes),
        constants,
        output_shape,
        tuple(tracer.no_layers),
        tuple(tracer.relus_unseen),
    )


def refuse_hidden_calls(module: nn.Module) -> None:
    """Raise `DeconvnetError` for a module that is known to hide its calls."""
    if any(isinstance(submodule, torch.jit.ScriptModule) for submodule in module.modules()):
        raise DeconvnetError(
            "A ScriptModule hides what it computes, so no deconvnet can be attached to it: pass the original nn.Module."
        )
    if any(hasattr(submodule, "_orig_mod") for submodule in module.modules()):
        raise DeconvnetError("A module compiled by torch.compile hides what it computes: pass the one that was compiled.")


#: Calls in which other functions compute a ReLU, at most.
_STEPS_OF_A_RELU = 6


class _Tracer(TorchFunctionMode):
    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.module_names = {submodule: name for name, submodule in module.named_modules()}
        self.running: list[nn.Module] = []
        """The submodules whose forward is running, innermost last."""
        self.grad_enabled = True
        """As the module has set it, which a custom autograd function does not change while it runs."""
        self.activation_count = 0
        self.layers: list[Layer] = []
        """The outputs of ReLUs."""
        self.other_layers: list[Layer] = []
        """The outputs of other activation functions."""
        self.no_layers: list[str] = []
        """In words, the activation functions that are no layers, and why."""
        self.steps: list[TraceStep] = []
        self.constants: list[list[float | Tensor]] = []
        self.weights = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        height, width = x.shape[-2:]
        self.shapes = [x.shape]
        """Of each signal."""
        self.fields = [SignalField(ReceptiveField(Axis(), Axis(), height, width))]
        """Of each signal."""
        self.orders: dict[int, tuple[int, ...]] = {}
        """By signal of four dimensions, where the images, channels, rows and columns are, if not in this order."""
        self.flattened: set[int] = set()
        """Signals that are feature maps written as a vector."""
        self.signals = {id(x): (x, 0)}
        """Each signal's tensor and number by the tensor's id; holding the tensor keeps its id from being reused."""
        self.relus_unseen: list[str] = []
        """Where a ReLU is computed by other functions, in words."""
        self.steps_to_compare = 0
        """How many more steps may complete a ReLU that other functions compute."""
        self.signals_by_memory: dict[int, int] = {}
        """Signals in memory that held no signal until an in-place call wrote one there."""

    @contextmanager
    def track_submodules(self) -> Iterator[None]:
        """Keep `running` up to date, by PyTorch's global hooks, which are not set on any module."""

        def leave(*_: Any) -> None:  # what a hook returns would replace the module's output
            self.running.pop()

        handles = (
            register_module_forward_pre_hook(lambda submodule, _: self.running.append(submodule)),
            register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _running_path(self) -> str:
        """The path of the innermost of the running submodules that has one: a module made in `forward` has none."""
        return next((self.module_names[each] for each in reversed(self.running) if each in self.module_names), "")

    def _layer_name(self, func: Callable[..., Any], is_relu: bool) -> str:
        path, innermost = self._running_path(), self.running[-1] if self.running else None
        if innermost in self.module_names and type(innermost).__module__ == nn.ReLU.__module__:
            return path
        return f"{path}.{'relu' if is_relu else function_name(func).strip('_')}".lstrip(".")

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        func, args, kwargs = standard_call(func, args, kwargs or {}, lambda tensor: self.signal_of(tensor) is not None)
        if is_hook_registration(func):
            return no_hook(func)
        if is_metadata_access(func):
            return func(*args, **kwargs)
        if func is torch._C._set_grad_enabled:
            self.grad_enabled = args[0]
        # Arguments are read before the call, as an in-place function changes its input and returns it.
        tensors = list(iter_tensors((args, kwargs)))
        shapes, signals = [tensor.shape for tensor in tensors], [self.signal_of(tensor) for tensor in tensors]
        if uses_batch_statistics(func, args, kwargs) and signals[0] is not None:  # not of weights, which some standardise
            raise DeconvnetError(
                f"The batch normalisation {self._running_path()!r} goes by the photos that happen to be in a batch (it "
                "tracks no running statistics), so what the network makes of one photo depends on the others: it cannot be "
                "looked at."
            )
        is_relu, is_layer = match_relu(func, args, kwargs) is not None, is_activation(func, args, kwargs)
        self.activation_count += is_layer
        before_change = args[0].clone() if args and isinstance(args[0], Tensor) and changes_input(func) else None
        versions = [_version(tensor) for tensor in tensors]
        overwritten = kwargs.get("out") if "out" in kwargs else args[0] if overwrites_input(func) else None
        read = [(tensor, signal) for tensor, signal in zip(tensors, signals, strict=True) if tensor is not overwritten]
        constants: list[float | Tensor] = [*iter_numbers((args, kwargs)), *self._sums(read)]
        is_cut = has_no_gradient(func) or not (self.grad_enabled or torch.is_grad_enabled())
        if func is torch._C._set_grad_enabled:
            output = func(*args)
        else:
            with torch.no_grad():
                output = func(*args, **kwargs)
        result = args[0] if is_assignment(func) else output
        changed = [tensor for tensor, version in zip(tensors, versions, strict=True) if _version(tensor) != version]
        self._record_step(func, args, kwargs, tensors, shapes, signals, changed, result, is_layer, is_relu, is_cut)
        self.constants.append(constants if self.steps[-1].outputs else [])
        if isinstance(result, Tensor) and not is_layer:
            self._compare_with_relu(result, before_change)
        if is_layer and self.signal_of(output) is not None:
            self._record_layer(func, output, is_relu)
        return output

    def signal_of(self, tensor: Tensor) -> int | None:
        """The signal that a tensor is, or None."""
        if id(tensor) not in self.signals:
            signal = self.signals_by_memory.get(_memory(tensor)) if self.signals_by_memory else None
            if signal is None:
                return None
            self.signals[id(tensor)] = (tensor, signal)
        return self.signals[id(tensor)][1]

    def _record_step(
        self,
        func: Callable[..., Any],
        args: Args,
        kwargs: Kwargs,
        tensors: list[Tensor],
        shapes: list[torch.Size],
        inputs: list[int | None],
        changed: list[Tensor],
        result: Any,
        is_layer: bool,
        is_relu: bool,
        is_cut: bool,
    ) -> None:
        """Append the call to `steps`, and its outputs to the signals with their receptive fields.

        `tensors` are its tensor arguments, `shapes` and `inputs` their shapes and signals before the call, `changed` those
        that it changed in place. (Dropout in evaluation mode returns its argument and does not change it.)
        """
        input_signals = [signal for signal in inputs if signal is not None]
        outputs = list(iter_tensors(result)) if input_signals and not is_constant_creation(func) else []
        only_tensors = isinstance(result, Tensor) or (
            type(result) in (tuple, list) and all(isinstance(item, Tensor) for item in result)
        )
        sliding = match_sliding_window(func, args, kwargs) if outputs else None
        pointwise = sliding is None and all(
            is_pointwise(func, args, kwargs, shape, output)
            for shape, signal in zip(shapes, inputs, strict=True)
            if signal is not None
            for output in outputs
        )
        if sliding is not None and sliding.unpadded is not None:
            croppable = len(outputs) == 1 and inputs[0] is not None and len(input_signals) == 1
        else:
            constants = [tensor for tensor, signal in zip(tensors, inputs, strict=True) if signal is None]
            croppable = pointwise and all(supports_cropping(func, output, constants) for output in outputs)
        changed_in_place = [output for output in outputs if any(output is tensor for tensor in changed)]
        new_in_place = [output for output in changed_in_place if self.signal_of(output) is None]
        where = self._where() if input_signals else ""
        fields = self._output_fields(func, args, kwargs, shapes, inputs, outputs, where, bool(new_in_place))
        returned = [self._record_signal(output, field) for output, field in zip(outputs, fields, strict=True)]
        self._record_orders(func, args, kwargs, input_signals, outputs)
        for output in new_in_place:
            self.signals_by_memory[_memory(output)] = self.signals[id(output)][1]
        aliases = self._aliases(changed_in_place)
        for signal, tensor in aliases.items():
            for output, field in zip(outputs, fields, strict=True):
                self.fields[signal] = write_through(output, field, tensor, self.fields[signal])
        has_weight = bool(outputs) and func in (torch.conv2d, F.linear) and inputs[0] is not None and inputs[1] is None
        has_rule = is_layer or is_local_response_norm(func) or is_linear(func, inputs, args, kwargs)
        self.steps.append(
            TraceStep(
                func,
                inputs=tuple(inputs),
                outputs=(*returned, *aliases),
                window=sliding.window if sliding is not None else None,
                croppable=croppable and not aliases and not new_in_place,
                multiplications_per_position=tensors[1].numel() if func is torch.conv2d and outputs else 0,
                weight=tensors[1] if has_weight else None,
                activation_index=self.activation_count - 1 if is_layer else None,
                has_rule=not outputs or has_rule,
                returned=len(returned),
                return_type=Tensor if isinstance(result, Tensor) else type(result),
                is_relu=is_relu,
                is_cut=bool(outputs) and (is_cut or any(output.is_inference() for output in outputs)),
                where=where,
                opaque=bool(input_signals) and not only_tensors and not is_shape_query(func),
            )
        )

    def _record_orders(
        self, func: Callable[..., Any], args: Args, kwargs: Kwargs, inputs: list[int], outputs: list[Tensor]
    ) -> None:
        """In which order the outputs have images, channels, rows and columns."""
        usual: tuple[int, ...] = (0, 1, 2, 3)
        before = next((self.orders.get(signal, usual) for signal in inputs if len(self.shapes[signal]) == 4), None)
        for output in outputs:
            signal, order = self.signals[id(output)][1], usual
            if is_over_last_dim(func, args) and output.dim() == 4:
                order = (0, 3, 1, 2)  # channels are the last
            elif before is not None and output.dim() == 4 and not expects_channels_first(func):
                is_other = is_reshaping(func) and output.shape != self.shapes[inputs[0]]
                order = usual if is_other else permuted_dims(func, args, kwargs, before)
            self.orders.pop(signal, None)
            if order != usual:
                self.orders[signal] = order
            has_places = is_reshaping(func) and any(self.shapes[each][2:].numel() > 1 for each in inputs)
            stays_flat = is_elementwise(func, args, kwargs) and bool(self.flattened.intersection(inputs))
            if output.dim() == 2 and (has_places or stays_flat):
                self.flattened.add(signal)

    def _sums(self, read: Iterable[tuple[Tensor, int | None]]) -> Iterator[Tensor]:
        """Weighted sums of the tensors that are neither signals nor the module's weights; the plain sum of a softmax is
        always one. `read` has the signal of each tensor.
        """
        for tensor, signal in read:
            if signal is None and id(tensor) not in self.weights and not (tensor.is_meta or tensor.is_complex()):
                values = tensor.detach().flatten().float()
                weights = torch.linspace(1, 2, len(values), device=values.device)
                yield (values.abs() * weights).sum()
                yield (values.clamp(min=0) * weights).sum()

    def _record_signal(self, output: Tensor, field: SignalField) -> int:
        """The signal that a tensor is, a new one if it was none, with its field updated."""
        signal = self.signal_of(output)
        if signal is None:
            signal = len(self.fields)
            self.fields.append(field)
            self.shapes.append(output.shape)
            self.signals[id(output)] = (output, signal)
        self.fields[signal] = field
        return signal

    def _aliases(self, changed: list[Tensor]) -> dict[int, Tensor]:
        """Other signals, with their tensors, that share memory with tensors changed in place, and so change too."""
        if not changed:
            return {}
        memory, own = _memory(changed[0]), {self.signal_of(tensor) for tensor in changed}
        sharing = {signal: tensor for tensor, signal in self.signals.values() if _memory(tensor) == memory}
        return {signal: sharing[signal] for signal in sorted(sharing) if signal not in own}

    def _output_fields(
        self,
        func: Callable[..., Any],
        args: Args,
        kwargs: Kwargs,
        shapes: list[torch.Size],
        inputs: list[int | None],
        outputs: list[Tensor],
        where: str,
        is_new_in_place: bool,
    ) -> list[SignalField]:
        if not outputs:
            return []
        fields = [None if signal is None else self.fields[signal] for signal in inputs]
        call = TracedCall(func, args, kwargs, shapes, inputs, fields, outputs, where)
        with torch.device("cpu"):  # a module on the device meta may be traced
            return [nothing_known(call)] * len(outputs) if is_new_in_place else fields_after(call)

    def _record_layer(self, func: Callable[..., Any], output: Tensor, is_relu: bool) -> None:
        name, signal = self._layer_name(func, is_relu), self.signals[id(output)][1]
        if output.dim() not in (2, 4) or len(output) != 1 or self.orders.get(signal, (0, 1))[:2] != (0, 1):
            kind = "for one photo neither feature maps (1, C, H, W) nor a vector (1, C)"
        elif signal in self.flattened:
            kind = "feature maps written as a vector"
        else:
            kind = ""
        if kind:
            other = "" if is_relu else f" ({function_name(func).strip('_')})"
            self.no_layers.append(f"{name}{other} gives a tensor of shape {tuple(output.shape)}, {kind}")
            return
        convolutional = output.dim() == 4
        map_size = (output.shape[2], output.shape[3]) if convolutional else (1, 1)
        field = layer_field(self.fields[signal], output.shape)
        layer = Layer(name, self.activation_count - 1, output.shape[1], map_size, convolutional, field)
        (self.layers if is_relu else self.other_layers).append(layer)

    def _compare_with_relu(self, output: Tensor, before: Tensor | None) -> None:
        """Note if the last step computes a ReLU by functions for which there is no rule, of a recent signal or in place."""
        step = self.steps[-1]
        self.steps_to_compare = _STEPS_OF_A_RELU if not step.has_rule else self.steps_to_compare - 1
        if before is None and set(step.outputs) <= set(step.inputs):
            return  # it returns its argument, as dropout does
        if self.steps_to_compare <= 0 or not step.outputs or output.is_meta or not output.is_floating_point():
            return
        recent = [tensor for tensor, _ in list(self.signals.values())[-_STEPS_OF_A_RELU:] if tensor is not output]
        recent = [x for x in recent if x.shape == output.shape and x.dtype == output.dtype]
        if any(torch.equal(x, output) for x in recent):
            return  # which passes on what a ReLU has made, as dropout does
        for x in recent if before is None else [before]:
            if (x < 0).any() and torch.equal(x.clamp(min=0), output):
                self.relus_unseen.append(f"{step.name}{step.where}")
                return

    def _where(self) -> str:
        """The submodule and the line of code that are running, in words, from " of" or " in" on."""
        path = self._running_path()
        return f"{f' of {path}' if path else ''}{line_of_code(sys._getframe(3))}"


def _version(tensor: Tensor) -> int | None:
    """A number that grows when a tensor changes in place; None for one of inference mode, which changes in that alone."""
    return None if tensor.is_inference() else tensor._version


def _memory(tensor: Tensor) -> int:
    """An identifier of the memory that a tensor is stored in, which its views share."""
    return tensor.untyped_storage()._cdata
