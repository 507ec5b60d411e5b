"""Run a network for one activation per image, computing only what that activation depends on.

An activation of AlexNet's conv5 depends on 3×3 places of conv4, 5×5 of conv3 … and 163×163 pixels: a cone through the
network. The trace tells each map's part in it, in the places of that map. All activations of a layer have cones of one
shape, those at borders too, so activations at different positions go through in one batch: places beyond a map's border are
filled with what the operation that reads them takes for padding, and then no operation pads any more.

This is exact up to rounding, branches, residual sums and dense blocks included. It is possible below the first operation
that mixes places in another way than by a sliding window (a fully connected layer, global pooling, an attention).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvnet.tracing.graph import Step, Trace
from deconvnet.tracing.ops.arguments import Args, Kwargs, iter_tensors, map_tensors
from deconvnet.tracing.ops.spatial import Window, is_reshaping, match_sliding_window
from deconvnet.tracing.receptive_field import Axis

Call = Callable[[Callable[..., Any], Args, Kwargs], Any]


class DependencyRegion(NamedTuple):
    """The places of a map that an activation depends on, as fields of the activation's own row and column."""

    rows: Axis
    columns: Axis

    def under(self, window: Window) -> "DependencyRegion":
        """The reach in the map below, from which a window makes this one."""
        rows, columns = zip(*window, strict=True)
        return DependencyRegion(self.rows.under_window(*rows), self.columns.under_window(*columns))

    def joined(self, other: "DependencyRegion | None") -> "DependencyRegion":
        """What holds both; a jump of 0 if they are on unlike grids."""
        if other is None:
            return self
        return DependencyRegion(self.rows.joined(other.rows, 0), self.columns.joined(other.columns, 0))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of places."""
        return self.rows.size, self.columns.size


class TraceMismatch(Exception):
    """The module does not make the calls that it made when it was traced."""


@dataclass(frozen=True)
class Cone:
    """What an activation of one layer depends on."""

    trace: Trace
    reaches: Mapping[int, DependencyRegion]
    """By number of the signal, of those that the activation depends on."""
    share: float
    """Of the multiplications that the same pass over whole images takes."""


def cone(trace: Trace, layer: int) -> Cone | None:
    """The cone of layer number `layer`, or None if what it depends on cannot be cut out."""
    end = next(number for number, step in enumerate(trace.steps) if step.layer == layer)
    steps, shapes = trace.steps[: end + 1], trace.shapes
    target = steps[-1].outputs[0]
    if len(shapes[target]) != 4 or any(step.opaque for step in steps):
        return None
    reaches = _reaches(steps, {target: DependencyRegion(Axis(), Axis())})
    # What changes in place is one signal before and after. If it needs to be larger before, another round finds it so.
    if reaches is None or _reaches(steps, reaches) != reaches:
        return None
    if any(axis.jump == 0 for reach in reaches.values() for axis in reach):
        return None
    whole = sum(step.work * prod(shapes[step.outputs[0]][-2:]) for step in steps if step.work)
    cut = sum(step.work * prod(reaches[step.outputs[0]].size) for step in steps if step.work and step.outputs[0] in reaches)
    return Cone(trace, reaches, cut / whole if whole else 1.0)


def _reaches(steps: Sequence[Step], known: Mapping[int, DependencyRegion]) -> dict[int, DependencyRegion] | None:
    """What the signals in `known` depend on, of all signals; None if a step on the way cannot be cut."""
    reaches = dict(known)
    for step in reversed(steps):
        wanted = [reaches[number] for number in step.outputs if number in reaches]
        if not wanted:
            continue
        if not step.croppable:
            return None
        reach = reduce(DependencyRegion.joined, wanted)  # several are the parts of a split
        reaches |= dict.fromkeys(step.outputs, reach)
        below = reach.under(step.window) if step.window else reach
        for number in step.inputs:
            if number is not None:
                reaches[number] = below.joined(reaches.get(number))
    return reaches


class CroppedForward:
    """One run through a cone, for activations at given positions."""

    def __init__(self, cone: Cone, positions: Tensor) -> None:
        """`positions` (N, 2) are rows and columns in the layer's maps."""
        self.cone, self.positions = cone, positions.cpu()
        self.steps = iter(cone.trace.steps)

    def window(self, x: Tensor) -> Tensor:
        """The pixels of x (N, 3, H, W) that each activation depends on, (N, 3, h, w); 0 beyond the border."""
        windows = x.new_zeros(len(x), x.shape[1], *self.cone.reaches[0].size).contiguous(
            memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format
        )
        paste(windows, x, -self.starts)
        return windows

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: Call) -> Any:
        """Run one call of the module on cut-outs by `run`; what the activations do not depend on is not computed."""
        step = next(self.steps, None)
        if step is None or step.func != func or len(step.inputs) != sum(1 for _ in iter_tensors((args, kwargs))):
            raise TraceMismatch
        if not step.outputs:
            return run(func, *self._whole(step, args, kwargs))
        wanted = self.cone.reaches.get(step.outputs[0])
        if wanted is None:
            return self._unneeded(step, args, kwargs)
        if step.window is not None:
            return self._slide(step, wanted, func, args, kwargs)
        numbers = iter(step.inputs)

        def cut(tensor: Tensor) -> Tensor:
            number = next(numbers)
            return tensor if number is None else self._cut(tensor, number, wanted)

        args, kwargs = map_tensors((args, kwargs), cut)
        if is_reshaping(func):  # its arguments may name the size of the whole map
            x, shape = next(iter_tensors(args)), self.cone.trace.shapes[step.outputs[0]]
            return x.reshape(len(x), *shape[1:-2], *x.shape[-2:])
        return run(func, args, kwargs)

    def _slide(self, step: Step, wanted: DependencyRegion, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        moved, input, output = match_sliding_window(func, args, kwargs), step.inputs[0], step.outputs[0]
        if moved is None or moved.unpadded is None or moved.window != step.window or input is None:
            raise TraceMismatch
        needed = wanted.under(moved.window)
        x = self._cut(next(iter_tensors((args, kwargs))), input, needed)
        y = moved.unpadded(self._filled(x, input, needed, moved.fill))
        # A window that lies beyond the border altogether would give -inf, which later sums could turn into NaN.
        return self._filled(y, output, wanted, 0.0) if moved.fill == -torch.inf else y

    def _cut(self, tensor: Tensor, number: int, wanted: DependencyRegion) -> Tensor:
        """The part of a signal's cut-out that a call needs."""
        have = self.cone.reaches[number]
        if tensor.shape[-2:] != have.size:
            raise TraceMismatch
        if have == wanted:
            return tensor
        rows, columns = (slice(w.start - h.start, w.start - h.start + w.size) for h, w in zip(have, wanted, strict=True))
        if min(rows.start, columns.start) < 0:
            raise TraceMismatch
        return tensor[..., rows, columns]

    def _filled(self, tensor: Tensor, number: int, reach: DependencyRegion, value: float) -> Tensor:
        """The cut-out with `value` at the places that lie beyond the border of the whole map."""
        beyond = []
        for axis, at, length in zip(reach, self.positions.T, self.cone.trace.shapes[number][-2:], strict=True):
            places = at[:, None] * axis.jump + axis.start + torch.arange(axis.size)
            beyond.append((places < 0) | (places >= length))
        rows, columns = beyond
        if not (rows.any() or columns.any()):
            return tensor
        mask = (rows[:, None, :, None] | columns[:, None, None, :]).to(tensor.device)
        filled: Tensor = _Fill.apply(tensor, mask, value)
        return filled

    def _unneeded(self, step: Step, args: Args, kwargs: Kwargs) -> Any:
        """What stands in for the output of a call that the activations do not depend on."""
        like = next(iter_tensors((args, kwargs)))
        made = [self._stand_in(like, number) for number in step.outputs[: step.made]]
        return made[0] if step.returns is Tensor else step.returns(made)

    def _whole(self, step: Step, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """The arguments of a call about shapes, which has to hear of whole maps."""
        numbers = iter(step.inputs)

        def stand_in(tensor: Tensor) -> Tensor:
            number = next(numbers)
            return tensor if number is None else self._stand_in(tensor, number)

        args, kwargs = map_tensors((args, kwargs), stand_in)
        return args, kwargs

    def _stand_in(self, like: Tensor, number: int) -> Tensor:
        """A tensor of the shape of a signal's whole maps that takes no memory and no time."""
        shape = self.cone.trace.shapes[number]  # of a trace of one image
        images = len(self.positions) if shape and shape[0] == 1 else shape[:1]
        return like.new_zeros(()).expand(*([images] if isinstance(images, int) else images), *shape[1:])

    @property
    def starts(self) -> Tensor:
        """(N, 2) the row and column of the first pixel of each window."""
        reach = self.cone.reaches[0]
        return self.positions * torch.tensor([axis.jump for axis in reach]) + torch.tensor([axis.start for axis in reach])


class _Fill(torch.autograd.Function):
    """`masked_fill`, which keeps the layout in memory: poolings take ten times as long in another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, value: float) -> Tensor:
        ctx.save_for_backward(mask)
        return x.clone().masked_fill_(mask, value)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return signal.clone().masked_fill_(mask, 0), None, None


def paste(into: Tensor, tensor: Tensor, starts: Tensor) -> None:
    """Put tensor[n] (…, h, w) into into[n] (…, H, W) at the row and column starts[n], as far as it fits."""
    (height, width), (rows, columns) = tensor.shape[-2:], into.shape[-2:]
    for whole, part, (row, column) in zip(into, tensor, starts.tolist(), strict=True):
        top, left, bottom, right = max(row, 0), max(column, 0), min(row + height, rows), min(column + width, columns)
        if top < bottom and left < right:
            whole[..., top:bottom, left:right] = part[..., top - row : bottom - row, left - column : right - column]
