"""Run a network on many versions of one image that differ from it in a window each, computing only what can differ.

A window of 50 pixels changes 15 of the 55 columns of AlexNet's first maps, 8 of the 27 behind the pooling, and so on, until
it reaches everything. So the maps of the image itself are kept; of each version only the places that its window can reach
are computed, on cut-outs of their inputs. They are put back among the others where a call needs whole maps, or where so much
is reached that it does not pay any more. It is the same pass up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.tracing.cropped_forward import Call, TraceMismatch, paste
from deconvnet.tracing.graph import Step, Trace
from deconvnet.tracing.intercept import evaluation_mode
from deconvnet.tracing.ops.arguments import Args, Kwargs, iter_tensors, map_tensors
from deconvnet.tracing.ops.spatial import (
    Window,
    is_metadata_access,
    is_reshaping,
    match_sliding_window,
)

#: The share of a map's places above which the rest of it is computed too.
_CROP_COST_THRESHOLD = 0.7


@dataclass(frozen=True)
class ChangedRegion:
    """Where in a map the versions may differ from the image: a rectangle of one size, at a place of its own in each."""

    starts: Tensor
    """(versions, 2) rows and columns."""
    size: tuple[int, int]

    def through(self, window: Window, shape: tuple[int, int]) -> "ChangedRegion":
        """What a sliding window makes of it in a map of that shape."""
        starts, sizes = [], []
        for start, size, kernel, stride, padding, dilation, length in zip(
            self.starts.T, self.size, *window, shape, strict=True
        ):
            reach = (kernel - 1) * dilation
            first = torch.div(start + padding - reach + stride - 1, stride, rounding_mode="floor")
            last = torch.div(start + size - 1 + padding, stride, rounding_mode="floor")
            first, last = first.clamp(0, length - 1), last.clamp(0, length - 1)
            width = int((last - first).max()) + 1
            starts.append(first.clamp(max=length - width))
            sizes.append(width)
        return ChangedRegion(torch.stack(starts, dim=1), (sizes[0], sizes[1]))

    def under(self, window: Window) -> "ChangedRegion":
        """What a sliding window sees of the map below from there; it may reach beyond the border."""
        kernel, stride, padding, dilation = (torch.tensor(pair) for pair in window)
        size = (torch.tensor(self.size) - 1) * stride + (kernel - 1) * dilation + 1
        return ChangedRegion(self.starts * stride - padding, (int(size[0]), int(size[1])))

    def joined(self, other: "ChangedRegion", shape: tuple[int, int]) -> "ChangedRegion":
        """A region that holds both."""
        first = torch.minimum(self.starts, other.starts)
        last = torch.maximum(self.starts + torch.tensor(self.size), other.starts + torch.tensor(other.size))
        size = [min(int(length), whole) for length, whole in zip((last - first).amax(dim=0), shape, strict=True)]
        starts = torch.minimum(first, torch.tensor(shape) - torch.tensor(size)).clamp(min=0)
        return ChangedRegion(starts, (size[0], size[1]))


class ActivationCache:
    """What one image makes of every signal of a network, step by step: what its versions share where nothing has changed."""

    def __init__(self, trace: Trace, module: nn.Module, x: Tensor) -> None:
        """`x` is (1, 3, H, W), of the size that was traced."""
        self.trace, self.x = trace, x
        self.made: list[list[Tensor]] = []
        """The tensors that each step returned."""
        self.usable = True
        """Whether the module has taken all cut-outs so far."""
        x = x.clone()  # which the module may work on in place
        with torch.inference_mode(), evaluation_mode(module), _Recorder(self):
            module(x)


class _Recorder(TorchFunctionMode):
    def __init__(self, unchanged: ActivationCache) -> None:
        super().__init__()
        self.activation_cache = unchanged

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if not is_metadata_access(func):
            steps, made = self.activation_cache.trace.steps, self.activation_cache.made
            if len(made) == len(steps) or steps[len(made)].func != func:
                raise TraceMismatch
            # A copy, as the module may go on in place.
            made.append([tensor.clone() for tensor in iter_tensors(output)] if steps[len(made)].outputs else [])
        return output


class IncrementalForward:
    """One run of a network on windows in place of those of the image; what `run_intercepted` is given as `cut`."""

    def __init__(self, unchanged: ActivationCache, starts: Tensor, size: tuple[int, int]) -> None:
        """`starts` (N, 2) are the rows and columns where the windows of `size` stand, inside the image."""
        self.trace = unchanged.trace
        self.steps = iter(zip(unchanged.trace.steps, unchanged.made, strict=True))
        self.count = len(starts)
        self.regions: dict[int, ChangedRegion | None] = {0: ChangedRegion(starts.cpu(), size)}
        """Of each signal so far; None where all of the map is computed."""
        self.before: dict[int, Tensor] = {0: unchanged.x}
        """Of each signal so far, what the image alone makes of it."""
        self.last = 0

    def whole(self, output: Tensor, maps: slice = slice(None)) -> Tensor:
        """The maps (N, maps, rows, columns) of the layer that goes by; `output` is what `callback` was given."""
        return self._whole(output[:, maps], self.last, maps)

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: Call) -> Any:
        """Run one call of the module by `run`, on cut-outs as far as that pays."""
        step, made = next(self.steps, (None, []))
        if step is None or step.func != func or len(step.inputs) != sum(1 for _ in iter_tensors((args, kwargs))):
            raise TraceMismatch
        if not step.outputs:
            return run(func, *self._about_shape(step, args, kwargs))
        inputs = [number for number in step.inputs if number is not None]
        regions = [self.regions[number] for number in inputs]
        known = [region for region in regions if region is not None]
        if not known:
            output, region = run(func, args, kwargs), None
        elif len(step.outputs) != len(made):
            raise TraceMismatch  # memory that several signals share
        elif len(known) < len(regions) or not step.croppable:
            output, region = self._all(step, func, args, kwargs, run), None
        elif step.window is not None:
            output, region = self._slide(step, known[0], func, args, kwargs, run)
        else:
            output, region = self._each_place(step, known, func, args, kwargs, run)
        for number, before in zip(step.outputs, made, strict=False):
            self.regions[number], self.before[number] = region, before
        self.last = step.outputs[0]
        return output

    def _slide(
        self, step: Step, region: ChangedRegion, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: Call
    ) -> tuple[Any, ChangedRegion | None]:
        moved, shape = match_sliding_window(func, args, kwargs), self.trace.shapes[step.outputs[0]][-2:]
        if moved is None or moved.unpadded is None or moved.window != step.window:
            return self._all(step, func, args, kwargs, run), None
        changed = region.through(moved.window, (shape[0], shape[1]))
        if prod(changed.size) > _CROP_COST_THRESHOLD * prod(shape):
            return self._all(step, func, args, kwargs, run), None
        x = self._cut(next(iter_tensors((args, kwargs))), step.inputs[0] or 0, changed.under(moved.window), moved.fill)
        return moved.unpadded(x), changed

    def _each_place(
        self, step: Step, regions: list[ChangedRegion], func: Callable[..., Any], args: Args, kwargs: Kwargs, run: Call
    ) -> tuple[Any, ChangedRegion | None]:
        shape = self.trace.shapes[step.outputs[0]]
        changed = regions[0]
        for region in regions[1:]:
            if region is not changed:
                changed = changed.joined(region, (shape[-2], shape[-1]))

        def cut(tensor: Tensor, number: int) -> Tensor:
            return self._cut(tensor, number, changed, 0.0)

        args, kwargs = self._changed(step, args, kwargs, cut)
        if is_reshaping(func):  # its arguments may name the size of the whole map
            x = next(iter_tensors(args))
            return x.reshape(len(x), *shape[1:-2], *x.shape[-2:]), changed
        return run(func, args, kwargs), changed

    def _all(self, step: Step, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: Call) -> Any:
        """The call on whole maps."""
        return run(func, *self._changed(step, args, kwargs, self._whole))

    def _changed(
        self, step: Step, args: Args, kwargs: Kwargs, change: Callable[[Tensor, int], Tensor]
    ) -> tuple[Args, Kwargs]:
        """The arguments with each signal changed: in place if the call works in place, as the module holds that tensor."""
        numbers = iter(step.inputs)

        def changed(tensor: Tensor) -> Tensor:
            number = next(numbers)
            if number is None or (other := change(tensor, number)) is tensor:
                return tensor
            return tensor.set_(other) if number in step.outputs else other  # type: ignore[call-overload]

        args, kwargs = map_tensors((args, kwargs), changed)
        return args, kwargs

    def _whole(self, tensor: Tensor, number: int, maps: slice = slice(None)) -> Tensor:
        region, before = self.regions[number], self.before[number]
        if region is None:
            return tensor
        whole = _like(before, self.count, before.shape[-2:])[:, maps]
        whole.copy_(before[:, maps])
        paste(whole, tensor, region.starts)
        return whole

    def _cut(self, tensor: Tensor, number: int, wanted: ChangedRegion, fill: float) -> Tensor:
        """The part of a signal's maps that a call needs, of which some are not changed; `fill` beyond the border."""
        region, before = self.regions[number], self.before[number]
        if region is None or region is wanted:
            return tensor
        cut = _like(before, self.count, wanted.size).fill_(fill)
        paste(cut, before.expand(self.count, *before.shape[1:]), -wanted.starts)
        paste(cut, tensor, region.starts - wanted.starts)
        return cut

    def _about_shape(self, step: Step, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """The arguments of a call about shapes, which has to hear of whole maps."""

        def stand_in(tensor: Tensor, number: int) -> Tensor:
            if self.regions[number] is None:
                return tensor
            return tensor.new_zeros(()).expand(self.count, *self.trace.shapes[number][1:])

        return self._changed(step, args, kwargs, stand_in)


def _like(before: Tensor, count: int, size: tuple[int, ...]) -> Tensor:
    """Room for `count` maps of another size, in the same layout in memory."""
    channels_last = before.dim() == 4 and before.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (count, *before.shape[1:-2], *size)
    return torch.empty(shape, dtype=before.dtype, device=before.device, memory_format=layout)
