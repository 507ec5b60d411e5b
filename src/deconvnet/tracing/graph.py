"""What is known of one forward pass of a module: its layers with their receptive fields, and every torch call on the way.

A layer is the output of a ReLU, observed before pooling as in the paper.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deconvnet.tracing.ops.sliding_window import SlidingWindow
from deconvnet.tracing.ops.spellings import function_name
from deconvnet.tracing.receptive_field import FieldStatus, ReceptiveField


@dataclass(frozen=True, repr=False)
class Layer:
    """One layer of a network, the output of a ReLU; in a network without ReLUs, of what it has in their place."""

    name: str
    index: int
    """Which activation function of the forward pass it is, from 0. Those that are no layers are counted too."""
    units: int
    """Feature maps of a convolutional layer, neurons of a fully connected one."""
    map_size: tuple[int, int]
    """Rows and columns of its feature maps; (1, 1) for a fully connected layer."""
    convolutional: bool
    """Does it have feature maps?"""
    field: ReceptiveField
    """The receptive field of its activations."""

    def __repr__(self) -> str:
        maps = "×".join(map(str, self.map_size))
        return f"<Layer {self.name}: {self.units} units, feature map {maps}, receptive field {self.field}>"


@dataclass(frozen=True)
class TraceStep:
    """One torch call of the forward pass. Signals are the tensors that depend on the network's input, numbered from 0."""

    func: Callable[..., Any]
    inputs: tuple[int | None, ...]
    """For each tensor argument its signal, or None if it does not depend on the network's input."""
    outputs: tuple[int, ...]
    """The signals that the call returns or changes, which are among its inputs if it works in place."""
    window: SlidingWindow | None
    """The window that it slides over its first input."""
    croppable: bool
    """Does it return for a crop of its inputs the same crop of its output?"""
    multiplications_per_position: int
    """Per position of its output; counted for convolutions only."""
    weight: Tensor | None
    """The weight of a convolution or a fully connected layer whose only signal is its input."""
    activation_index: int | None
    """Which activation function of the forward pass it is, if it is one."""
    has_rule: bool
    """Does the paper say how a projection passes it? If not, its gradient is used."""
    returned: int
    """How many of `outputs` it returns; the others change because they share memory with these."""
    return_type: type
    """`Tensor`, `tuple` or `list`."""
    is_relu: bool
    """Is that activation function a ReLU?"""
    is_cut: bool
    """Does autograd not see how its outputs depend on its inputs, as under `torch.no_grad`?"""
    where: str
    """The path of the submodule that called it and the line of code, for messages; either may be missing."""
    opaque: bool
    """Does it turn signals into Python values, or into anything but tensors? No placeholder can replace its result."""

    @property
    def is_other_activation(self) -> bool:
        """Is it an activation function that lets negative values through?"""
        return self.activation_index is not None and not self.is_relu

    @property
    def name(self) -> str:
        """The name of the function, for messages."""
        return function_name(self.func).strip("_") or "a call"


@dataclass(frozen=True)
class Trace:
    """One forward pass of a module on one image."""

    layers: tuple[Layer, ...]
    """In the order in which they run."""
    steps: tuple[TraceStep, ...]
    """Every torch call, in order."""
    shapes: tuple[torch.Size, ...]
    """Of each signal; signal 0 is the input."""
    constants: tuple[tuple[float, ...], ...]
    """Of each step, the numbers among its arguments, and the sums of the absolute values of tensors that are no signals."""
    output_shape: torch.Size
    """Of the module's output for one image, as `find_output` has it."""
    no_layers: tuple[str, ...] = ()
    """Of activation functions that are no layers, in words: which they are, and why."""
    relus_unseen: tuple[str, ...] = ()
    """Where a ReLU is computed by functions for which there is no rule, in words."""
    is_fixed: bool = True
    """Are calls and constants the same for all photos?"""

    def values_read(self) -> str:
        """In words, where the module reads values of maps into Python, on which anything may depend; empty if nowhere."""
        for step in self.steps:
            if step.opaque and not step.outputs:
                return f"reads values of maps into Python, by {step.name}{step.where}"
        return ""

    def difference(self, other: "Trace") -> str:
        """In words, what another trace of the same module, for another photo, shows to depend on the photo unseen; empty if
        nothing.
        """
        calls, other_calls = ([(step.func, step.inputs, step.outputs) for step in trace.steps] for trace in (self, other))
        if calls != other_calls or self.shapes != other.shapes:
            return "makes other calls for one photo than for another"
        for step, constants, others in zip(self.steps, self.constants, other.constants, strict=True):
            if len(constants) != len(others) or not all(map(_is_close, constants, others)):
                return (
                    f"gives {step.name}{step.where} something that depends on the photo in a way that cannot be followed (a "
                    "number read from maps, NumPy, a scripted function)"
                )
        return ""

    def without_fields(self) -> "Trace":
        """The trace of a module in which not all can be followed: every activation may depend on all of the input."""
        field = ReceptiveField.whole_input(self.shapes[0][-2], self.shapes[0][-1], FieldStatus.DATA_DEPENDENT)
        return replace(self, layers=tuple(replace(layer, field=field) for layer in self.layers), is_fixed=False)

    def layer_step(self, layer_index: int) -> int:
        """The index in `steps` of the ReLU of the layer with this `Layer.index`."""
        return next(index for index, step in enumerate(self.steps) if step.activation_index == layer_index)

    def steps_below(self, layer_index: int) -> list[TraceStep]:
        """The steps that a layer depends on, its own first."""
        last = self.layer_step(layer_index)
        required, steps = set(self.steps[last].outputs), []
        for step in reversed(self.steps[: last + 1]):
            if required.intersection(step.outputs):
                required.update(signal for signal in step.inputs if signal is not None)
                steps.append(step)
        return steps

    def has_way_down(self, layer_index: int) -> bool:
        """Does a signal pass from a layer to the input? Not if all ways are cut."""
        steps = self.steps_below(layer_index)
        reached = set(steps[0].outputs)
        for step in steps:
            if reached.intersection(step.outputs) and not step.is_cut:
                reached.update(signal for signal in step.inputs if signal is not None)
        return 0 in reached

    def functions_without_rule(self, layer_index: int) -> list[str]:
        """Names of the functions that a layer depends on and for which the paper has no rule, such as a gate's product."""
        return sorted({step.name for step in self.steps_below(layer_index) if not step.has_rule})


def _is_close(one: float, other: float) -> bool:
    """Whether two constants are the same but for rounding."""
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))


def number_duplicate_names(layers: list[Layer]) -> Iterator[Layer]:
    """The layers, those that share a name numbered in the order in which they run."""
    totals, counts = Counter(layer.name for layer in layers), Counter[str]()
    for layer in layers:
        counts[layer.name] += 1
        yield replace(layer, name=f"{layer.name}#{counts[layer.name]}") if totals[layer.name] > 1 else layer
