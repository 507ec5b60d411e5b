"""Run a network on versions of one image, each with a different patch, computing only what the patch can change.

A patch of 50 pixels changes 15 of the 55 columns of AlexNet's first maps, 8 of the 27 behind the pooling, and so on, until
it affects everything. So the image's own maps are cached, and for each version only the changed region is computed, on crops
of its inputs. Crops are pasted back into full maps where a call needs those, or where the changed region is so large that
cropping no longer pays. The result is that of the full pass up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from deconvnet.tracing.cropped_forward import TraceMismatch, paste
from deconvnet.tracing.graph import Trace, TraceStep
from deconvnet.tracing.intercept import RunCall, run_intercepted
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors, map_tensors
from deconvnet.tracing.ops.pointwise import is_reshaping
from deconvnet.tracing.ops.sliding_window import SlidingWindow, match_sliding_window

#: The fraction of a map's positions above which all of it is computed.
_CROP_COST_THRESHOLD = 0.7


@dataclass(frozen=True)
class ChangedRegion:
    """Where in a map the versions may differ from the image: a rectangle of the same size in each, at its own position."""

    corners: Tensor
    """(versions, 2) row and column of the first position."""
    size: tuple[int, int]
    """Rows and columns."""

    def affected_outputs(self, window: SlidingWindow, shape: tuple[int, int]) -> "ChangedRegion":
        """The region of the output, a map of that shape, that a sliding window over this region can change."""
        corners, sizes = [], []
        for corner, size, kernel, stride, padding, dilation, length in zip(
            self.corners.T, self.size, *window, shape, strict=True
        ):
            extent = (kernel - 1) * dilation
            first = torch.div(corner + padding - extent + stride - 1, stride, rounding_mode="floor")
            last = torch.div(corner + size - 1 + padding, stride, rounding_mode="floor")
            first, last = first.clamp(min=0), last.clamp(max=length - 1)
            largest = max(int((last - first).max()) + 1, 1)  # where no window reads a change, one is computed nevertheless
            corners.append(first.clamp(max=length - largest))
            sizes.append(largest)
        return ChangedRegion(torch.stack(corners, dim=1), (sizes[0], sizes[1]))

    def required_inputs(self, window: SlidingWindow) -> "ChangedRegion":
        """The region that a sliding window reads in its input to compute this region; it may extend beyond the border."""
        kernel, stride, padding, dilation = (torch.tensor(pair) for pair in window)
        size = (torch.tensor(self.size) - 1) * stride + (kernel - 1) * dilation + 1
        return ChangedRegion(self.corners * stride - padding, (int(size[0]), int(size[1])))

    def union(self, other: "ChangedRegion", shape: tuple[int, int]) -> "ChangedRegion":
        """Bounding union, in a map of that shape."""
        first = torch.minimum(self.corners, other.corners)
        last = torch.maximum(self.corners + torch.tensor(self.size), other.corners + torch.tensor(other.size))
        size = [min(int(extent), length) for extent, length in zip((last - first).amax(dim=0), shape, strict=True)]
        corners = torch.minimum(first, torch.tensor(shape) - torch.tensor(size)).clamp(min=0)
        return ChangedRegion(corners, (size[0], size[1]))


class ActivationCache:
    """The results of every step of a network for one image, which its versions share where nothing has changed."""

    def __init__(self, trace: Trace, module: nn.Module, x: Tensor) -> None:
        """`x` is (1, 3, H, W), of the size that was traced."""
        self.trace, self.x = trace, x
        self.results: list[list[Tensor]] = []
        """The tensors that each step returned."""
        self.usable = True
        """Whether the module has accepted all crops so far."""
        with torch.inference_mode():
            run_intercepted(module, x.clone(), lambda *_: False, partial=self._record)  # the module may change its input

    def _record(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        output, steps, results = run(func, args, kwargs), self.trace.steps, self.results
        if len(results) == len(steps) or steps[len(results)].func != func:
            raise TraceMismatch
        # Copies, as the module may change them in place.
        results.append([tensor.clone() for tensor in iter_tensors(output)] if steps[len(results)].outputs else [])
        return output


class IncrementalForward:
    """One run of a network on the patches of an image's versions; the `partial` of `run_intercepted`."""

    def __init__(self, cache: ActivationCache, corners: Tensor, size: tuple[int, int]) -> None:
        """`corners` (N, 2) are the rows and columns of the first pixels of the patches of `size`, inside the image."""
        self.trace = cache.trace
        self.steps = iter(zip(cache.trace.steps, cache.results, strict=True))
        self.batch_size = len(corners)
        self.regions: dict[int, ChangedRegion | None] = {0: ChangedRegion(corners.cpu(), size)}
        """By signal, so far; None where full maps are computed."""
        self.cached: dict[int, Tensor] = {0: cache.x}
        """By signal, so far, its value for the unchanged image."""

    def full_maps(self, output: Tensor) -> Tensor:
        """The full maps (N, units, rows, columns) of the layer whose `output` the callback has just received."""
        signal = getattr(output, "_signal", None)
        if signal is None:
            raise TraceMismatch
        return self._expand(output, signal)

    def __call__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        """Run the module's next call by `run`, on crops as far as that pays.

        Raises `TraceMismatch` if it is not the call that was traced.
        """
        step, results = next(self.steps, (None, []))
        if step is None or step.func != func or len(step.inputs) != sum(1 for _ in iter_tensors((args, kwargs))):
            raise TraceMismatch
        if not step.outputs:
            return run(func, *self._with_full_shapes(step, args, kwargs))
        if any(self.regions.get(signal) is not None for signal in step.outputs[len(results) :]):
            raise TraceMismatch  # signals that share memory with what changes in place, of which only a region is computed
        regions = [self.regions[signal] for signal in step.inputs if signal is not None]
        cropped = [region for region in regions if region is not None]
        if not cropped:
            output, region = run(func, args, kwargs), None
        elif len(step.outputs) != len(results):
            raise TraceMismatch  # several signals share memory
        elif len(cropped) < len(regions) or not step.croppable:
            output, region = self._run_full(step, func, args, kwargs, run), None
        elif step.window is not None:
            output, region = self._run_sliding(step, cropped[0], func, args, kwargs, run)
        else:
            output, region = self._run_pointwise(step, cropped, func, args, kwargs, run)
        for signal, cached in zip(step.outputs, results, strict=False):
            self.regions[signal], self.cached[signal] = region, cached
        for signal, tensor in zip(step.outputs, iter_tensors(output), strict=False):
            tensor._signal = signal  # type: ignore[attr-defined]
        return output

    def _run_sliding(
        self, step: TraceStep, region: ChangedRegion, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall
    ) -> tuple[Any, ChangedRegion | None]:
        call = match_sliding_window(func, *self._with_full_shapes(step, args, kwargs))
        shape = self.trace.shapes[step.outputs[0]][-2:]
        if call is None or call.unpadded is None or call.window != step.window:
            return self._run_full(step, func, args, kwargs, run), None
        changed = region.affected_outputs(call.window, (shape[0], shape[1]))
        if prod(changed.size) > _CROP_COST_THRESHOLD * prod(shape):
            return self._run_full(step, func, args, kwargs, run), None
        required = changed.required_inputs(call.window)
        x = self._crop(next(iter_tensors((args, kwargs))), step.inputs[0] or 0, required, call.fill)
        return run(*call.unpadded(x)), changed

    def _run_pointwise(
        self,
        step: TraceStep,
        regions: list[ChangedRegion],
        func: Callable[..., Any],
        args: Args,
        kwargs: Kwargs,
        run: RunCall,
    ) -> tuple[Any, ChangedRegion | None]:
        shape = self.trace.shapes[step.outputs[0]]
        changed = regions[0]
        for region in regions[1:]:
            if region is not changed:
                changed = changed.union(region, (shape[-2], shape[-1]))

        def crop(tensor: Tensor, signal: int) -> Tensor:
            return self._crop(tensor, signal, changed, 0.0)

        args, kwargs = self._map_signals(step, args, kwargs, crop)
        if is_reshaping(func):  # its arguments may name the size of the full map
            x = next(iter_tensors(args))
            return x.reshape(len(x), *shape[1:-2], *x.shape[-2:]), changed
        return run(func, args, kwargs), changed

    def _run_full(self, step: TraceStep, func: Callable[..., Any], args: Args, kwargs: Kwargs, run: RunCall) -> Any:
        """The call on full maps."""
        return run(func, *self._map_signals(step, args, kwargs, self._expand))

    def _map_signals(
        self, step: TraceStep, args: Args, kwargs: Kwargs, function: Callable[[Tensor, int], Tensor]
    ) -> tuple[Args, Kwargs]:
        """The arguments with `function(tensor, signal)` applied to each signal.

        If the call works in place, the tensor itself is set to the result, as the module holds that tensor.
        """
        signals = iter(step.inputs)

        def replace(tensor: Tensor) -> Tensor:
            signal = next(signals)
            if signal is None or (result := function(tensor, signal)) is tensor:
                return tensor
            return tensor.set_(result) if signal in step.outputs else result  # type: ignore[call-overload]

        args, kwargs = map_tensors((args, kwargs), replace)
        return args, kwargs

    def _expand(self, tensor: Tensor, signal: int) -> Tensor:
        """The full maps of a signal, of which `tensor` is the changed region."""
        region, cached = self.regions[signal], self.cached[signal]
        if region is None:
            return tensor
        full = _empty_like(cached, self.batch_size, cached.shape[-2:]).copy_(cached)
        paste(full, tensor, region.corners)
        return full

    def _crop(self, tensor: Tensor, signal: int, required: ChangedRegion, fill: float) -> Tensor:
        """The region of a signal that a call needs, partly from the cache; `fill` beyond the border."""
        region, cached = self.regions[signal], self.cached[signal]
        if region is None or region is required:
            return tensor
        crop = _empty_like(cached, self.batch_size, required.size).fill_(fill)
        paste(crop, cached.expand(self.batch_size, *cached.shape[1:]), -required.corners)
        paste(crop, tensor, region.corners - required.corners)
        return crop

    def _with_full_shapes(self, step: TraceStep, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """The arguments of a call that must see the shapes of full maps, as zeros that take no memory."""

        def placeholder(tensor: Tensor, signal: int) -> Tensor:
            if self.regions[signal] is None:
                return tensor
            return tensor.new_zeros(()).expand(self.batch_size, *self.trace.shapes[signal][1:])

        return self._map_signals(step, args, kwargs, placeholder)


def _empty_like(cached: Tensor, batch_size: int, size: tuple[int, ...]) -> Tensor:
    """Uninitialised memory for a batch of maps of another size, in the same memory format."""
    channels_last = cached.dim() == 4 and cached.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    shape = (batch_size, *cached.shape[1:-2], *size)
    return torch.empty(shape, dtype=cached.dtype, device=cached.device, memory_format=memory_format)
