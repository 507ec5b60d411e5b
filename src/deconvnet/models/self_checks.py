"""Whether a module does the same in every pass, tried once for each network.

Projections, crops and incremental passes run parts of a module again and again, and rely on what a single pass has shown. So
a module is tried with a photo alone and between others (what is random, keeps state or depends on the batch), with that
photo laid out in memory otherwise, and with other pixels (which may take another path through the module).
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.environment import memory_format
from deconvnet.errors import DeconvnetError, DeconvnetWarning, ForwardError
from deconvnet.models.module_copies import copy_module
from deconvnet.tracing import (
    Trace,
    describe_error,
    describe_failure,
    exact_float32,
    find_output,
    first_of,
    iter_tensors,
    refuse_hidden_calls,
    run_intercepted,
    trace,
)
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs

#: Outputs of two passes differ if they do so by this fraction of the largest of them, or by 16 eps of the dtype: far more
#: than rounding, on any device.
_TOLERANCE = 1e-3


class SelfChecks:
    """Passes of a module over two images of noise; six of one image in all, if each check is made."""

    def __init__(self, module: nn.Module, name: str, x: Tensor) -> None:
        """`name` is that of the network, for errors; `x` is (2, C, H, W)."""
        self.module, self.name, self.x = copy_module(module) or module, name, x

    @property
    def layout(self) -> torch.memory_format:
        """The order in memory in which the module takes its input: the device's fastest, if the output is the same.

        Code that was written for contiguous maps may fail on others, as `x.view(len(x), -1)` does. Raises `DeconvnetError`
        if the module changes its own buffers.
        """
        layout, _, changed = self._found
        if changed:
            others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise DeconvnetError(
                f"{self.name} changes its own buffers in each pass, also in evaluation mode ({changed[0]}{others}), so it "
                "cannot be looked at: freeze them first, as module.apply(torch.ao.quantization.disable_observer) does for "
                "quantisation-aware training."
            )
        return layout

    def trace(self) -> Trace:
        """The module's trace. Raises `ForwardError` if it cannot be run, and `DeconvnetError`, with the name of the call, if
        it makes something else of a photo in each pass, or in another batch.

        If something in the module depends on the photo and cannot be followed, the trace says that nothing is known of
        receptive fields, and a warning names it.
        """
        refuse_hidden_calls(self.module)
        if not self.x.is_meta:
            _ = self.layout  # raises for a module that would not be the same afterwards
        traced = self._traced(torch.zeros_like(self.x[:1]))
        if traced.no_layers:
            warnings.warn(f"{first_of(traced.no_layers)}: no layer of {self.name}.", DeconvnetWarning, stacklevel=2)
        for unfollowed in sorted({layer.field.unfollowed for layer in traced.layers} - {""}):
            warnings.warn(
                f"Which pixels {unfollowed} reads is not known, so the receptive fields of the layers of {self.name} that "
                "depend on it are taken for the whole image.",
                DeconvnetWarning,
                stacklevel=2,
            )
        if self.x.is_meta:  # there are no values that could differ
            return traced
        _, reason, _ = self._found
        if reason:
            raise DeconvnetError(reason)
        again = self._traced(self.x[:1])
        if again.relus_unseen:
            warnings.warn(
                f"{self.name} computes a ReLU by {first_of(again.relus_unseen)} in a way that is not known for one: it is "
                "no layer, and projections pass it by its gradient, not by the paper's rule, so write torch.relu there.",
                DeconvnetWarning,
                stacklevel=2,
            )
        difference = traced.values_read() or traced.difference(again)
        if not difference:
            return traced
        if [(layer.name, layer.index) for layer in again.layers] != [(layer.name, layer.index) for layer in traced.layers]:
            raise DeconvnetError(f"{self.name} has other layers for one photo than for another, so it cannot be looked at.")
        warnings.warn(
            f"{self.name} {difference}, so the receptive fields of its layers are taken for the whole image, and all of it "
            "is computed.",
            DeconvnetWarning,
            stacklevel=2,
        )
        return traced.without_fields()

    def _traced(self, x: Tensor) -> Trace:
        try:
            return trace(self.module, x)
        except DeconvnetError:
            raise
        except Exception as error:  # a module can raise anything
            size = "×".join(map(str, x.shape[1:]))
            raise ForwardError(
                f"{self.name} cannot be run on {size} pixels, as its preprocessing or input_shape says: it fails "
                f"{describe_failure(self.module, error)}."
            ) from error

    @cached_property
    def _found(self) -> tuple[torch.memory_format, str, list[str]]:
        """The layout, why the module cannot be looked at, if so, and the buffers that it changes: found at once, as its
        weights may change later.
        """
        before = self._buffers()
        layout, reason, settled = self._try_out()
        # Those that the first pass fills for all that follow may stay so.
        changed = [name for name, (buffer, values) in settled.items() if self._restore(name, buffer, values)]
        if changed:
            for name, (buffer, values) in before.items():
                self._restore(name, buffer, values)
        return layout, reason, changed

    def _buffers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The module's buffers by name, each with a copy of its values."""
        return {name: (buffer, buffer.clone()) for name, buffer in self.module.named_buffers()}

    def _try_out(self) -> tuple[torch.memory_format, str, dict[str, tuple[Tensor, Tensor]]]:
        """The layout, why the module cannot be looked at, if so, and the buffers as the first pass has left them."""
        photo = self.x[:1]
        try:
            alone = self._outputs(photo)
        except Exception:  # a module can raise anything, and will again in the pass for which this is asked
            return torch.contiguous_format, "", {}
        settled, layout = self._buffers(), memory_format(photo.device)
        try:
            is_same = not _differ(alone, self._outputs(photo.contiguous(memory_format=layout)))
        except Exception:  # as above
            is_same = False
        if not is_same and layout != torch.contiguous_format:
            layout = torch.contiguous_format
            is_same = not _differ(alone, self._outputs(photo))
        if not is_same:
            reason = (
                f"{self.name} gives another output in each pass over the same photo, also in evaluation mode"
                f"{self._first_difference(photo, 0)}, so it cannot be looked at. A dropout that is always active, say, "
                "should be F.dropout(x, training=self.training)."
            )
            return layout, reason, settled
        return layout, self._why_of_batch(alone), settled

    def _restore(self, name: str, buffer: Tensor, values: Tensor) -> bool:
        """Give a buffer the values that it had; whether it had others."""
        path, _, own_name = name.rpartition(".")
        owner = self.module.get_submodule(path)
        is_same = buffer.shape == values.shape and bool(((buffer == values) | (buffer.isnan() & values.isnan())).all())
        if is_same and owner._buffers[own_name] is buffer:
            return False
        with torch.no_grad():
            owner._buffers[own_name] = buffer.set_(values)  # type: ignore[call-overload]
        return True

    def _why_of_batch(self, alone: list[Tensor]) -> str:
        """Why a photo's output, `alone`, is another one in a batch; empty if it is not."""
        for scale in (4, 1):  # the others have the largest values of the batch, if it takes them
            others = scale * self.x[1:]
            batch = torch.cat([others, self.x[:1], others])
            try:
                together = self._outputs(batch, 1)
            except Exception as error:  # as above
                if scale == 1:
                    return f"{self.name} takes one photo, but not three at once ({describe_error(error)})."
            else:
                break
        if not _differ(alone, together):
            return ""
        return (
            f"What {self.name} makes of a photo depends on the others in a batch{self._first_difference(batch, 1)}, so it "
            "cannot be looked at."
        )

    def _outputs(self, x: Tensor, row: int = 0) -> list[Tensor]:
        """The floating-point tensors of the module's output for one image of `x`, on the CPU."""
        with torch.no_grad(), exact_float32():
            returned = run_intercepted(self.module, x.clone(), lambda *_: False)
        with suppress(DeconvnetError):
            returned = find_output(returned, len(x))
        if isinstance(returned, list) and len(returned) == len(x):  # as detectors return
            return [tensor.detach().cpu() for tensor in iter_tensors(returned[row]) if tensor.is_floating_point()]
        tensors = [tensor for tensor in iter_tensors(returned) if tensor.is_floating_point()]
        return [tensor.detach().cpu() for tensor in _rows(tensors, row, len(x))]

    def _first_difference(self, batch: Tensor, row: int) -> str:
        """In words, the first call of which the result for a photo is another one as this row of a batch than alone."""
        alone, together = _Results(0, 1), _Results(row, len(batch))
        for results, x in ((alone, self.x[:1]), (together, batch)):
            with results:
                self._outputs(x)
        for (name, one), (other_name, other) in zip(alone.calls, together.calls, strict=False):
            if name != other_name or (len(one) == len(other) and _differ(one, other)):
                return f" (from {name.strip('_')} on)"
        return ""


class _Results(TorchFunctionMode):
    """Keeps what each call of torch makes of one image, a row in a batch of `count`."""

    def __init__(self, row: int, count: int) -> None:
        super().__init__()
        self.row, self.count = row, count
        self.calls: list[tuple[str, list[Tensor]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [tensor for tensor in iter_tensors(result) if tensor.is_floating_point()]
        rows = [tensor.detach().cpu().clone() for tensor in _rows(tensors, self.row, self.count)]
        self.calls.append((getattr(func, "__name__", "?"), rows))
        return result


def _rows(tensors: Sequence[Tensor], row: int, count: int) -> list[Tensor]:
    """That row of the tensors that have one for each of `count` images."""
    return [tensor[row : row + 1] for tensor in tensors if tensor.dim() and len(tensor) == count]


def _differ(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether tensors differ in number, in shape, or in values by more than rounding."""
    if [tensor.shape for tensor in first] != [tensor.shape for tensor in second]:
        return True
    for one, other in zip(first, second, strict=True):
        finite = one[one.isfinite()]
        scale = float(finite.abs().amax()) if finite.numel() else 0.0
        tolerance = max(_TOLERANCE, 16 * torch.finfo(one.dtype).eps) * scale
        if not torch.isclose(one.double(), other.double(), rtol=0, atol=tolerance, equal_nan=True).all():
            return True
    return False
