"""What is known of one forward pass of a module: its layers with their receptive fields, and every torch call on the way.

A layer is the output of a ReLU, observed before pooling as in the paper.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deconvnet.tracing.ops.sliding_window import SlidingWindow
from deconvnet.tracing.receptive_field import ReceptiveField


@dataclass(frozen=True, repr=False)
class Layer:
    """One layer of a network, the output of a ReLU."""

    name: str
    index: int
    """Which ReLU of the forward pass it is, from 0. ReLUs that do not depend on the input are counted but are no layers."""
    units: int
    """Feature maps of a convolutional layer, neurons of a fully connected one."""
    map_size: tuple[int, int]
    """Rows and columns of its feature maps; (1, 1) for a fully connected layer."""
    convolutional: bool
    """Does it have feature maps?"""
    field: ReceptiveField
    """The receptive field of its activations."""

    def __repr__(self) -> str:
        maps, field = ("×".join(map(str, size)) for size in (self.map_size, self.field.size))
        return f"<Layer {self.name}: {self.units} units, feature map {maps}, receptive field {field}>"


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
    relu_index: int | None
    """Which ReLU of the forward pass it is, if it is one."""
    has_rule: bool
    """Does the paper say how a projection passes it? If not, its gradient is used."""
    returned: int
    """How many of `outputs` it returns; the others change because they share memory with these."""
    return_type: type
    """`Tensor`, `tuple` or `list`."""
    opaque: bool
    """Does it turn signals into Python values, or into anything but tensors? No placeholder can replace its result."""


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
    is_fixed: bool = True
    """Are calls and constants the same for all photos?"""

    def difference(self, other: "Trace") -> str:
        """In words, what another trace of the same module, for another photo, shows to depend on the photo unseen; empty if
        nothing.
        """
        calls, other_calls = ([(step.func, step.inputs, step.outputs) for step in trace.steps] for trace in (self, other))
        if calls != other_calls or self.shapes != other.shapes:
            return "makes other calls for one photo than for another"
        for step, constants, others in zip(self.steps, self.constants, other.constants, strict=True):
            if len(constants) != len(others) or not all(map(_is_close, constants, others)):
                name = getattr(step.func, "__name__", "a call").strip("_")
                return (
                    f"gives {name} something that depends on the photo in a way that cannot be followed (a number read from "
                    "maps, NumPy, a scripted function)"
                )
        return ""

    def without_fields(self) -> "Trace":
        """The trace of a module in which not all can be followed: every activation may depend on all of the input."""
        field = ReceptiveField.whole_input(self.shapes[0][-2], self.shapes[0][-1])
        return replace(self, layers=tuple(replace(layer, field=field) for layer in self.layers), is_fixed=False)

    def layer_step(self, layer_index: int) -> int:
        """The index in `steps` of the ReLU of the layer with this `Layer.index`."""
        return next(index for index, step in enumerate(self.steps) if step.relu_index == layer_index)

    def functions_without_rule(self, layer_index: int) -> list[str]:
        """Names of the functions that a layer depends on and for which the paper has no rule, such as a gate's product."""
        last = self.layer_step(layer_index)
        required, names = set(self.steps[last].outputs), set()
        for step in reversed(self.steps[: last + 1]):
            if required.intersection(step.outputs):
                required.update(signal for signal in step.inputs if signal is not None)
                if not step.has_rule:
                    names.add(getattr(step.func, "__name__", "?").strip("_"))
        return sorted(names)


def _is_close(one: float, other: float) -> bool:
    """Whether two constants are the same but for rounding."""
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
