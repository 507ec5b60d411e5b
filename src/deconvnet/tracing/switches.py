"""Send activations down to the input by switches alone (section 2.1), without the values of any feature map.

By the paper's rules the way down reads nothing of the photo but where its max poolings found their maxima, the switches. So
a forward pass is needed only as far as the highest max pooling, and one will do for all activations in a photo: a
`SwitchRecorder` keeps its switches. A `SwitchedPass` then runs the module on placeholders, for its backward pass's sake.

Above the highest max pooling the way down reads nothing of the photo at all, so it is the same for all activations of a unit
at one position, but for the factor that the activation itself is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.cropped_forward import CroppedForward, CropPlan, TraceMismatch, multiplications, paste, plan_crop
from deconvnet.tracing.graph import Trace, TraceStep
from deconvnet.tracing.intercept import RunCall, StopForward
from deconvnet.tracing.ops.linearity import chooses_by_value
from deconvnet.tracing.ops.metadata import is_in_place
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors
from deconvnet.tracing.ops.sliding_window import SlidingWindow, match_max_pooling
from deconvnet.tracing.placeholders import pass_on, placeholder, run_shape_only, unpool_by
from deconvnet.tracing.receptive_field import Pair


@dataclass(frozen=True)
class SwitchPlan:
    """How activations of a layer are projected by switches alone."""

    trace: Trace
    required: frozenset[int]
    """The indices of the trace's steps that the layer depends on."""
    poolings: tuple[int, ...]
    """The indices of the max poolings among them, ascending."""
    shares_top: bool
    """Does all that the layer depends on pass through the output of the highest pooling (the input, if there is no pooling)?
    Then what goes down to there is the same for all photos."""
    crop: CropPlan | None
    """To run on crops where that is cheaper; None if the forward pass cannot be cropped."""
    multiplications_below: int
    """Of a forward pass over one photo as far as the highest pooling."""
    multiplications_below_on_crop: int
    """The same on the crop of one activation."""
    multiplications_above: int
    """Of the convolutions from there to the layer, of what one activation depends on."""

    def includes(self, lower: "SwitchPlan") -> bool:
        """Whether all that goes down by this plan goes down by the whole of `lower`, another plan of the same trace, and in
        the same parts, so that what is found out about this one goes for both.
        """
        steps, top = self.trace.steps, max(lower.required)
        above = [steps[index] for index in sorted(self.required) if index > top]
        return (
            self.required >= lower.required
            and self.shares_top == lower.shares_top
            and self.poolings[-1:] == lower.poolings[-1:]
            and _start_from(steps[top].outputs[0], above)
        )


def plan_switches(trace: Trace, layer_index: int) -> SwitchPlan | None:
    """The plan for the layer with this `Layer.index`; None if its way down reads more of the photo than switches."""
    steps, shapes = trace.steps[: trace.layer_step(layer_index) + 1], trace.shapes
    if not trace.is_fixed:
        return None
    signals, required, poolings = set(steps[-1].outputs), set[int](), list[int]()
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        # Values read into Python, or views of maps that change in place, whose signals autograd reads from their memory.
        if step.opaque or len(step.outputs) > step.returned:
            return None
        if not signals.intersection(step.outputs):
            continue
        required.add(index)
        signals.update(signal for signal in step.inputs if signal is not None)
        if match_max_pooling(step.func) is F.max_pool2d_with_indices and step.return_type is Tensor:
            if len(shapes[step.outputs[0]]) != 4 or shapes[step.outputs[0]][0] != 1:
                return None
            poolings.insert(0, index)
        elif not step.has_rule or chooses_by_value(step.func) or step.is_other_activation:
            return None
    crop = plan_crop(trace, layer_index)
    regions = None if crop is None else crop.regions
    first_above = poolings[-1] + 1 if poolings else 0
    below = [steps[index] for index in sorted(required) if index < first_above]
    above = [steps[index] for index in sorted(required) if index >= first_above]
    return SwitchPlan(
        trace,
        frozenset(required),
        tuple(poolings),
        _start_from(steps[poolings[-1]].outputs[0] if poolings else 0, above),
        crop,
        multiplications(below, shapes),
        multiplications(below, shapes, regions),
        min(multiplications(above, shapes), multiplications(above, shapes, regions)),
    )


def _start_from(signal: int, steps: Sequence[TraceStep]) -> bool:
    """Whether the steps read no signal but this one and those that they make."""
    made = {signal}
    for step in steps:
        if not made.issuperset(signal for signal in step.inputs if signal is not None):
            return False
        made.update(step.outputs)
    return True


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
    """A pass on placeholders, whose backward pass goes by known switches; the `partial` of `run_intercepted`.

    Its backward pass starts from the layer. That of the part "above" ends at the highest of the poolings, if there is one,
    and that of the part "below" starts there: the forward pass then ends there, and gives no feature maps of the layer.
    """

    def __init__(
        self,
        plan: SwitchPlan,
        switches: Mapping[int, Tensor],
        cropped: CroppedForward | None = None,
        part: Literal["whole", "above", "below"] = "whole",
    ) -> None:
        """`switches` are those of a `SwitchRecorder`, for each activation; in its crop, if the pass is `cropped`. The part
        "above" needs none.
        """
        super().__init__(plan, cropped)
        self.switches, self.part = switches, part
        self.boundary: Tensor | None = None
        """What the highest of the poolings returns, once it has run: where the parts meet."""

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        def run_on_placeholders(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
            step = self.plan.trace.steps[self.index]
            if match_max_pooling(func) is not None and self.index in self.plan.poolings:
                if self.part != "above":
                    return unpool_by(self.switches[self.index], args, kwargs)
                pooled = next(iter_tensors((args, kwargs)))
                if self.index == self.plan.poolings[-1]:
                    return self._new_boundary(pooled)
                return placeholder(pooled, self._output_shape(pooled))
            if not step.outputs:  # nothing that depends on the photo
                return run(func, args, kwargs)
            if step.outputs == step.inputs and step.activation_index is None and not is_in_place(func):
                return args[0]  # as `x.contiguous()`, which is x itself and would be a copy of a placeholder
            return run_shape_only(func, args, kwargs)

        output = self.run_next(func, args, kwargs, run_on_placeholders)
        if self.part == "below" and self.index == self.plan.poolings[-1]:
            self.boundary = output
            raise StopForward
        return output

    def _new_boundary(self, pooled: Tensor) -> Tensor:
        """A leaf in place of what a pooling of the maps `pooled` returns, in the guise of a tensor that may be changed."""
        self.boundary = placeholder(pooled, self._output_shape(pooled)).requires_grad_()
        return pass_on(self.boundary)

    def _output_shape(self, pooled: Tensor) -> tuple[int, ...]:
        """The shape of what the running step, a pooling, makes of the maps `pooled`."""
        signal = self.plan.trace.steps[self.index].outputs[0]
        size = self.plan.trace.shapes[signal][2:] if self.cropped is None else self.cropped.plan.regions[signal].size
        return (*pooled.shape[:2], *size)


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


def custom_functions(output: Tensor) -> set[str]:
    """Qualified names of the `torch.autograd.Function`s, but for ours, that had a part in `output`: the backward passes that
    they bring may read values.
    """
    nodes, seen, names = [output.grad_fn], set[Any](), set[str]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(type(node), "_forward_cls", None)
        if function is not None and not function.__module__.startswith("deconvnet."):
            names.add(f"{function.__module__}.{function.__qualname__}")
        nodes += [earlier for earlier, _ in node.next_functions]
    return names
