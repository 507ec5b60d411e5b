"""Send activations down to the input by switches alone (section 2.1), without the values of any feature map.

By the paper's rules the way down reads nothing of the photo but where its max poolings found their maxima, the switches. So
a forward pass is needed only as far as the highest max pooling, and one will do for all activations in a photo: a
`SwitchRecorder` keeps its switches. A `SwitchedPass` then runs the module on placeholders, for its backward pass's sake.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing import placeholders
from deconvnet.tracing.cropped_forward import CroppedForward, CropPlan, TraceMismatch, cropping_cost, paste, plan_crop
from deconvnet.tracing.graph import Trace
from deconvnet.tracing.intercept import RunCall, StopForward
from deconvnet.tracing.ops.activations import is_other_activation
from deconvnet.tracing.ops.linearity import chooses_by_value
from deconvnet.tracing.ops.metadata import is_in_place
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs
from deconvnet.tracing.ops.sliding_window import SlidingWindow, match_max_pooling
from deconvnet.tracing.placeholders import run_shape_only, unpool_by
from deconvnet.tracing.receptive_field import Pair


@dataclass(frozen=True)
class SwitchPlan:
    """How activations of a layer are projected by switches alone."""

    trace: Trace
    poolings: tuple[int, ...]
    """The indices of the max poolings among the trace's steps that the layer depends on, ascending."""
    crop: CropPlan | None
    """To run on crops where that is cheaper; None if the forward pass cannot be cropped."""
    cost_to_poolings: float
    """Multiplications on a crop as far as the highest of the poolings, as a fraction of those on a whole photo."""


def plan_switches(trace: Trace, layer_index: int) -> SwitchPlan | None:
    """The plan for the layer with this `Layer.index`; None if its way down reads more of the photo than switches."""
    steps, shapes = trace.steps[: trace.layer_step(layer_index) + 1], trace.shapes
    required, poolings = set(steps[-1].outputs), list[int]()
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        # Values read into Python, or views of maps that change in place, whose signals autograd reads from their memory.
        if step.opaque or len(step.outputs) > step.returned:
            return None
        if not required.intersection(step.outputs):
            continue
        required.update(signal for signal in step.inputs if signal is not None)
        if match_max_pooling(step.func) is F.max_pool2d_with_indices and step.return_type is Tensor:
            if len(shapes[step.outputs[0]]) != 4 or shapes[step.outputs[0]][0] != 1:
                return None
            poolings.append(index)
        elif not step.has_rule or chooses_by_value(step.func) or is_other_activation(step.func):
            return None
    crop = plan_crop(trace, layer_index)
    to_poolings = cropping_cost(steps[: poolings[0]], shapes, crop.regions) if crop is not None and poolings else 1.0
    return SwitchPlan(trace, tuple(reversed(poolings)), crop, to_poolings)


class _TracedRun:
    """Follows the module's calls along the trace; on crops, with `cropped`."""

    def __init__(self, plan: SwitchPlan, cropped: CroppedForward | None) -> None:
        self.plan, self.cropped = plan, cropped
        self.index = -1
        """Of the step that is running."""

    def run_next(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        """Run the module's next call by `run`. Raises `TraceMismatch` if it is not the call that was traced."""
        self.index += 1
        steps = self.plan.trace.steps
        if self.index >= len(steps) or steps[self.index].func != func:
            raise TraceMismatch
        return run(func, args, kwargs) if self.cropped is None else self.cropped(func, args, kwargs, run)


class SwitchRecorder(_TracedRun):
    """A forward pass that keeps the switches of the poolings in a plan; the `partial` of `run_intercepted`.

    The pass ends at the highest of them; with `to_layer` it continues to the layer.
    """

    def __init__(self, plan: SwitchPlan, to_layer: bool, cropped: CroppedForward | None = None) -> None:
        super().__init__(plan, cropped)
        self.to_layer = to_layer
        self.switches: dict[int, Tensor] = {}
        """By index of the pooling, (N, C, rows, columns) int64: positions in the maps that it pools, in row-major order."""

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        def record(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
            pooling = match_max_pooling(func) if self.index in self.plan.poolings else None
            if pooling is None:
                return run(func, args, kwargs)
            output, self.switches[self.index] = pooling(*args, **kwargs)
            return output

        output = self.run_next(func, args, kwargs, record)
        if not self.to_layer and self.index == self.plan.poolings[-1]:
            raise StopForward
        return output


class SwitchedPass(_TracedRun):
    """A pass on placeholders, whose backward pass goes by known switches; the `partial` of `run_intercepted`."""

    def __init__(self, plan: SwitchPlan, switches: Mapping[int, Tensor], cropped: CroppedForward | None = None) -> None:
        """`switches` are those of a `SwitchRecorder`, for each activation; in its crop, if the pass is `cropped`."""
        super().__init__(plan, cropped)
        self.switches = switches

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        def run_on_placeholders(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
            if self.index in self.switches and match_max_pooling(func) is not None:
                return unpool_by(self.switches[self.index], args, kwargs)
            step = self.plan.trace.steps[self.index]
            if not step.outputs:  # nothing that depends on the photo
                return run(func, args, kwargs)
            if step.outputs == step.inputs and step.relu_index is None and not is_in_place(func):
                return args[0]  # as `x.contiguous()`, which is x itself and would be a copy of a placeholder
            return run_shape_only(func, args, kwargs)

        return self.run_next(func, args, kwargs, run_on_placeholders)


def crop_switches(plan: SwitchPlan, switches: Mapping[int, Tensor], photos: Tensor, positions: Tensor) -> dict[int, Tensor]:
    """The switches of each activation's crop, from those of whole photos.

    `switches` are of M photos; `photos` (N,) says in which of them each activation is, `positions` (N, 2) where in its maps.
    """
    assert plan.crop is not None
    cropped: dict[int, Tensor] = {}
    for index, whole in switches.items():
        step = plan.trace.steps[index]
        window, signal = step.window, step.inputs[0]
        assert window is not None
        assert signal is not None
        region = plan.crop.regions[step.outputs[0]]
        _, crop_width = region.required_inputs(window).size
        # Where in its window each maximum is found is the same in a crop as in the whole.
        starts, width = _window_starts(whole.shape[2:], window, window.padding), plan.trace.shapes[signal][-1]
        rows = whole // width - starts[0].to(whole.device)
        offsets = rows * crop_width + whole % width - starts[1].to(whole.device)
        crops = whole.new_zeros(len(photos), whole.shape[1], *region.size)
        paste(crops, [offsets[photo] for photo in photos.tolist()], -region.corners(positions))
        rows, columns = _window_starts(region.size, window, (0, 0))
        cropped[index] = crops + (rows * crop_width + columns).to(whole.device)
    return cropped


def _window_starts(size: Sequence[int], window: SlidingWindow, padding: Pair) -> tuple[Tensor, Tensor]:
    """The row (rows, 1) and the column (1, columns) of the first position of each of `size` windows."""
    rows, columns = (torch.arange(n) * stride - p for n, stride, p in zip(size, window.stride, padding, strict=True))
    return rows[:, None], columns[None]


def uses_custom_backward(output: Tensor) -> bool:
    """Whether the module's own `torch.autograd.Function`s had a part in `output`: their backward passes may read values."""
    nodes, seen = [output.grad_fn], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(type(node), "_forward_cls", None)
        if function is not None and function.__module__ != placeholders.__name__:
            return True
        nodes += [earlier for earlier, _ in node.next_functions]
    return False
