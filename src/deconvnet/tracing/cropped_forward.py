"""Run a network for one activation per image, computing only what that activation depends on.

An activation of AlexNet's conv5 depends on 3×3 positions of conv4, 5×5 of conv3 … and 163×163 pixels. The trace says which
region of each feature map that is. All activations of a layer depend on regions of the same size, those at borders too, so
activations at different positions run in one batch: positions beyond a map's border are filled with the padding value of the
operation that reads them, and no operation pads any more.

The result is exact up to rounding, including branches, residual sums and dense blocks. Cropping is possible up to the first
operation that mixes positions in any other way than by a sliding window (fully connected, global pooling, attention).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvnet.tracing.graph import Trace, TraceStep
from deconvnet.tracing.intercept import RunCall
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors, map_tensors
from deconvnet.tracing.ops.pointwise import is_reshaping
from deconvnet.tracing.ops.sliding_window import SlidingWindow, match_sliding_window
from deconvnet.tracing.placeholders import empty_maps, mask_signal
from deconvnet.tracing.receptive_field import Axis


class DependencyRegion(NamedTuple):
    """The region of a map that an activation depends on, along each axis as a function of the activation's position."""

    rows: Axis
    columns: Axis

    def required_inputs(self, window: SlidingWindow) -> "DependencyRegion":
        """The region that a sliding window reads in its input map to compute this region of its output."""
        rows, columns = zip(*window, strict=True)
        return DependencyRegion(self.rows.required_inputs(*rows), self.columns.required_inputs(*columns))

    def union(self, other: "DependencyRegion") -> "DependencyRegion":
        """Bounding union; jump 0 if the jumps differ."""
        return DependencyRegion(self.rows.union(other.rows, 0), self.columns.union(other.columns, 0))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        return self.rows.size, self.columns.size

    def corners(self, positions: Tensor) -> Tensor:
        """(N, 2) row and column of the region's first position, for activations at `positions` (N, 2)."""
        return positions * torch.tensor([axis.jump for axis in self]) + torch.tensor([axis.start for axis in self])


class TraceMismatch(Exception):
    """The module does not make the calls that it made when it was traced."""


@dataclass(frozen=True)
class CropPlan:
    """What one activation of a layer depends on: the crops with which a `CroppedForward` runs."""

    trace: Trace
    regions: Mapping[int, DependencyRegion]
    """By signal, for the signals that the activation depends on."""
    cost: float
    """Multiplications as a fraction of those of the same pass over full images."""


def plan_crop(trace: Trace, layer_index: int) -> CropPlan | None:
    """The plan for the layer with this `Layer.index`, or None if what it depends on cannot be cropped."""
    steps, shapes = trace.steps[: trace.layer_step(layer_index) + 1], trace.shapes
    target = steps[-1].outputs[0]
    if not trace.is_fixed or len(shapes[target]) != 4 or any(step.opaque for step in steps):
        return None
    regions = _dependencies(steps, {target: DependencyRegion(Axis(), Axis())})
    # A signal that changes in place has one region before and after. If more is needed before, a second round enlarges it.
    if regions is None or _dependencies(steps, regions) != regions:
        return None
    if any(axis.jump == 0 for region in regions.values() for axis in region):
        return None
    whole = multiplications(steps, shapes)
    return CropPlan(trace, regions, multiplications(steps, shapes, regions) / whole if whole else 1.0)


def multiplications(
    steps: Sequence[TraceStep],
    shapes: Sequence[torch.Size],
    regions: Mapping[int, DependencyRegion] | None = None,
) -> int:
    """Multiplications of the convolutions among `steps`, for one image; on crops to `regions`, if given."""
    total = 0
    for step in steps:
        if step.multiplications_per_position and (regions is None or step.outputs[0] in regions):
            signal = step.outputs[0]
            size = shapes[signal][-2:] if regions is None else regions[signal].size
            total += step.multiplications_per_position * prod(size)
    return total


def _dependencies(steps: Sequence[TraceStep], targets: Mapping[int, DependencyRegion]) -> dict[int, DependencyRegion] | None:
    """What `targets` depend on, by signal; None if a step on the way cannot be cropped."""
    regions = dict(targets)
    for step in reversed(steps):
        required = [regions[signal] for signal in step.outputs if signal in regions]
        if not required:
            continue
        if not step.croppable:
            return None
        output = reduce(DependencyRegion.union, required)  # of several only if the step splits a signal
        regions |= dict.fromkeys(step.outputs, output)
        region = output.required_inputs(step.window) if step.window else output
        for signal in step.inputs:
            if signal is not None:
                regions[signal] = region.union(regions[signal]) if signal in regions else region
    return regions


class CroppedForward:
    """One run according to a crop plan, for activations at given positions; the `partial` of `run_intercepted`."""

    def __init__(self, plan: CropPlan, positions: Tensor, shapes_only: bool = False) -> None:
        """`positions` (N, 2) are rows and columns in the layer's maps, one per crop. With `shapes_only`, signals are
        placeholders, and only the backward pass counts.
        """
        self.plan, self.positions, self.shapes_only = plan, positions.cpu(), shapes_only
        self.steps = iter(plan.trace.steps)
        self.changes_input = any(0 in step.outputs for step in plan.trace.steps)

    @property
    def corners(self) -> Tensor:
        """(N, 2) row and column of the first pixel of each crop of the input."""
        return self.plan.regions[0].corners(self.positions)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of each crop of the input."""
        return self.plan.regions[0].size

    def crop_input(self, x: Tensor, photos: Tensor | None = None) -> Tensor:
        """The pixels that each activation depends on, (N, 3, h, w), 0 beyond the border, from x (M, 3, H, W).

        `photos` (N,) says in which row of x each activation is; None if each has its own.
        """
        rows = range(len(x)) if photos is None else photos.tolist()
        crops = empty_maps((len(rows), x.shape[1], *self.input_size), x).zero_()
        paste(crops, [x[row] for row in rows], -self.corners)
        return crops

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        """Run the module's next call on crops by `run`; return placeholders for what the activations do not depend on.

        Raises `TraceMismatch` if it is not the call that was traced.
        """
        step = next(self.steps, None)
        if step is None or step.func != func or len(step.inputs) != sum(1 for _ in iter_tensors((args, kwargs))):
            raise TraceMismatch
        if not step.outputs:
            return run(func, *self._with_full_shapes(step, args, kwargs))
        region = self.plan.regions.get(step.outputs[0])
        if region is None:
            return self._placeholder_result(step, args, kwargs)
        if step.window is not None:
            return self._run_sliding(step, region, func, args, kwargs, run)
        signals = iter(step.inputs)

        def crop(tensor: Tensor) -> Tensor:
            signal = next(signals)
            return tensor if signal is None else self._crop(tensor, signal, region)

        args, kwargs = map_tensors((args, kwargs), crop)
        if is_reshaping(func):  # its arguments may name the size of the full map
            x, shape = next(iter_tensors(args)), self.plan.trace.shapes[step.outputs[0]]
            return x.reshape(len(x), *shape[1:-2], *x.shape[-2:])
        return run(func, args, kwargs)

    def _run_sliding(
        self, step: TraceStep, region: DependencyRegion, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall
    ) -> Tensor:
        call = match_sliding_window(func, *self._with_full_shapes(step, args, kwargs))
        input_signal, output_signal = step.inputs[0], step.outputs[0]
        if call is None or call.unpadded is None or call.window != step.window or input_signal is None:
            raise TraceMismatch
        required = region.required_inputs(call.window)
        x = self._crop(next(iter_tensors((args, kwargs))), input_signal, required)
        y = run(*call.unpadded(self._fill_beyond_border(x, input_signal, required, call.fill)))
        # A max pooling window entirely beyond the border gives -inf, which later sums could turn into NaN.
        return self._fill_beyond_border(y, output_signal, region, 0.0) if call.fill == -torch.inf else y

    def _crop(self, tensor: Tensor, signal: int, required: DependencyRegion) -> Tensor:
        """The region of a signal that a call needs; `tensor` is the signal's crop in this run."""
        available = self.plan.regions[signal]
        if tensor.shape[-2:] != available.size:
            raise TraceMismatch
        if available == required:
            return tensor
        offsets = [need.start - have.start for need, have in zip(required, available, strict=True)]
        if min(offsets) < 0:
            raise TraceMismatch
        rows, columns = (slice(offset, offset + axis.size) for offset, axis in zip(offsets, required, strict=True))
        return tensor[..., rows, columns]

    def _fill_beyond_border(self, tensor: Tensor, signal: int, region: DependencyRegion, value: float) -> Tensor:
        """The crop with `value` at the positions beyond the border of the full map, which nothing reads otherwise."""
        if signal == 0 and value == 0 and not self.changes_input:
            return tensor  # as `crop_input` made it
        beyond = []
        for axis, corner, length in zip(
            region, region.corners(self.positions).T, self.plan.trace.shapes[signal][-2:], strict=True
        ):
            indices = corner[:, None] + torch.arange(axis.size)
            beyond.append((indices < 0) | (indices >= length))
        rows, columns = beyond
        if not (rows.any() or columns.any()):
            return tensor
        mask = (rows[:, None, :, None] | columns[:, None, None, :]).to(tensor.device)
        if self.shapes_only:
            return mask_signal(tensor, mask)
        if not tensor.requires_grad:
            return tensor.masked_fill_(mask, value)
        filled: Tensor = _Fill.apply(tensor, mask, value)
        return filled

    def _placeholder_result(self, step: TraceStep, args: Args, kwargs: Kwargs) -> Any:
        """The result of a call that the activations do not depend on, as placeholders."""
        like = next(iter_tensors((args, kwargs)))
        returned = [self._placeholder(like, signal) for signal in step.outputs[: step.returned]]
        return returned[0] if step.return_type is Tensor else step.return_type(returned)

    def _with_full_shapes(self, step: TraceStep, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """The arguments of a call that must see the shapes of full maps, as placeholders."""
        signals = iter(step.inputs)

        def replace(tensor: Tensor) -> Tensor:
            signal = next(signals)
            return tensor if signal is None else self._placeholder(tensor, signal)

        args, kwargs = map_tensors((args, kwargs), replace)
        return args, kwargs

    def _placeholder(self, like: Tensor, signal: int) -> Tensor:
        """Zeros of the shape of a signal's full maps, which take neither memory nor time."""
        shape = self.plan.trace.shapes[signal]  # for one image, as traced
        batch = [len(self.positions)] if shape and shape[0] == 1 else shape[:1]
        return like.new_zeros(()).expand(*batch, *shape[1:])


class _Fill(torch.autograd.Function):
    """`masked_fill` that keeps the memory format: pooling is ten times slower in another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, value: float) -> Tensor:
        ctx.save_for_backward(mask)
        return x.clone().masked_fill_(mask, value)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return signal.clone().masked_fill_(mask, 0), None, None


def paste(target: Tensor, patches: Tensor | Sequence[Tensor], corners: Tensor) -> None:
    """Copy patches[n] (…, h, w) into target[n] (…, H, W), its first row and column at corners[n], clipped."""
    rows, columns = target.shape[-2:]
    for canvas, patch, (row, column) in zip(target, patches, corners.tolist(), strict=True):
        height, width = patch.shape[-2:]
        top, left, bottom, right = max(row, 0), max(column, 0), min(row + height, rows), min(column + width, columns)
        if top < bottom and left < right:
            canvas[..., top:bottom, left:right] = patch[..., top - row : bottom - row, left - column : right - column]
