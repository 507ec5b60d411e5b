"""Projections by a forward pass whose values autograd keeps, and its backward pass, for all modules and all rules."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from deconvnet.errors import DeconvnetError, ForwardError
from deconvnet.models import Network
from deconvnet.projection.projection_batch import ProjectionBatch, strongest_position
from deconvnet.tracing import (
    CroppedForward,
    Rules,
    TraceMismatch,
    custom_functions,
    describe_failure,
    empty_maps,
    exact_float32,
)


def project_by_autograd(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    from_one: bool,
    rules: Rules,
    cropped: CroppedForward | None = None,
) -> ProjectionBatch:
    """Project one activation for each of x (N, 3, H, W), as `project_batch` does; on crops, with `cropped`."""
    each = torch.arange(len(x), device=x.device)
    # A fresh leaf: the caller's tensor is neither changed nor given a gradient, and inference mode does not matter.
    with torch.inference_mode(False), torch.enable_grad():
        pixels = (x.clone() if cropped is None else cropped.crop_input(x)).requires_grad_()
        try:
            if cropped is None:
                captured: list[Tensor] = []
                network.capture(pixels, [layer], lambda _, maps: captured.append(maps), rules)
                maps: Tensor | None = captured[0]
            else:
                maps = network.capture_partial(pixels.clone(), layer, cropped, rules)
            if maps is None:
                raise TraceMismatch
            if rules.rectify is not None:
                _warn_of_functions(network, layer, maps)
            if positions is None:
                positions = strongest_position(maps.detach(), units)
            chosen = each, units, *(positions.unbind(dim=1) if cropped is None else (each * 0, each * 0))
            values = maps.detach()[chosen]
            signal = signal_from(maps, chosen, starting_signals(values, from_one))
            projections = send_down(maps, signal, pixels)
        except (TraceMismatch, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a module can raise anything, and may fail with gradients alone
            cause = error.__cause__ if isinstance(error, ForwardError) else error
            reason = _explain_autograd_error(cause)
            if isinstance(error, DeconvnetError) and not reason:
                raise
            reason = reason or f"its backward pass fails {describe_failure(network.module, error)}"
            raise DeconvnetError(f"There is no way down from {layer} of {network.name}: {reason}.") from error
    if projections is None:
        raise DeconvnetError(
            f"There is no way down from {layer} of {network.name}: its forward pass cuts it off, by torch.no_grad, detach "
            "or a custom autograd function."
        )
    check_finite(network, layer, projections)
    corners = torch.zeros(len(x), 2, dtype=torch.int64) if cropped is None else cropped.corners
    return ProjectionBatch(projections, corners, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))


def _warn_of_functions(network: Network, layer: str, maps: Tensor) -> None:
    """Warn, once, of custom autograd functions, whose backward passes no rule can replace."""
    names = sorted(name.rpartition(".")[2] for name in custom_functions(maps) if not name.startswith("torch."))
    if names:
        network.warn_once(
            "functions",
            f"The way down from {layer} of {network.full_name} passes custom autograd functions ({', '.join(names)}): "
            "their backward passes are used, whatever the rules say.",
        )


def starting_signals(values: Tensor, from_one: bool) -> Tensor:
    """What is sent down from activations: their values (N,), or 1 where these are above 0."""
    return (values > 0).to(values.dtype) if from_one else values


def signal_from(maps: Tensor, chosen: Any, values: Tensor) -> Tensor:
    """A signal of the shape of `maps`: `values` (N,) at the places that `chosen` indexes, 0 elsewhere."""
    signal = empty_maps(maps.shape, maps).zero_()
    signal[chosen] = values
    return signal


def send_down(maps: Tensor, signal: Tensor, source: Tensor) -> Tensor | None:
    """What a signal of the shape of `maps` is when it arrives at the tensor that they come from; None if it does not."""
    if not maps.requires_grad:
        return None
    with exact_float32():
        return torch.autograd.grad(_Start.apply(maps, signal), source, allow_unused=True)[0]


def check_finite(network: Network, layer: str, projections: Tensor) -> None:
    """Raise `DeconvnetError` unless all pixels are finite."""
    if projections.numel() and not torch.stack(projections.aminmax()).isfinite().all():
        raise DeconvnetError(
            f"Projections of {layer} of {network.full_name} are not finite: {network.reason_for_non_finite}."
        )


class _Start(torch.autograd.Function):
    """A number of which the gradient with respect to `maps` is `signal`.

    Passed to `grad` as its third argument, the signal would make torch import its symbolic shapes, which takes seconds. And
    the sum of maps · signal may overflow in float16.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, signal: Tensor) -> Tensor:
        ctx.save_for_backward(signal)
        return signal.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        (signal,) = ctx.saved_tensors
        return signal, None


def _explain_autograd_error(error: BaseException | None) -> str:
    """Why a module's backward pass failed and what to do about it; empty if the error is of no known kind."""
    if "inplace operation" in str(error) or "modified inplace" in str(error):
        return "it changes in place what is needed on the way down, so write x = x + y for x += y"
    if isinstance(error, CheckpointError):
        return "it computes parts again on the way down, so switch its activation checkpointing off"
    if "use_reentrant=True" in str(error):
        return "its activation checkpointing is reentrant, so pass use_reentrant=False to it, or switch it off"
    return ""
