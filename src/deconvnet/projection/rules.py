"""Rule sets: what replaces the derivative of each operation in the backward pass (section 2.1; normalisation: ECCV version).

A deconvnet is the backward pass of the network itself, with two rules changed:

- ReLU: the signal is itself rectified, no matter where the forward ReLU was active.
- Local response normalisation: the signal passes unchanged.

Everything else autograd does as the paper says: its transposed convolution drops the bias and keeps groups, strides and
sizes; its max pooling sends the signal to the switch and sums signals that share one.

Other methods, and other readings of the paper, are other rule sets of the same backward pass: `RULES`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from deconvnet.errors import UsageError
from deconvnet.tracing import Rules


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)  # so that autograd passes later uses of x through this function: `x.relu_()` as a statement
            return x.clamp_(0, ceiling)
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        return signal.clamp(min=0), None, None


class _Guide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
        ctx.save_for_backward(x > 0 if ceiling is None else (x > 0) & (x < ceiling))
        return _Rectify.forward(ctx, x, ceiling, inplace)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (active,) = ctx.saved_tensors
        return torch.where(active, signal.clamp(min=0), 0), None, None


class _PassThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        return signal, None


class _Overwrite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, pooling: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        output, switches = pooling(x)
        ctx.save_for_backward(switches)
        ctx.mark_non_differentiable(switches)
        ctx.size = x.shape  # type: ignore[attr-defined]
        return output, switches

    @staticmethod
    def backward(ctx: Any, signal: Tensor, _: Tensor) -> tuple[Tensor, None]:
        # Scattering the signal itself would leave the order of writing, and so which window wins, to the device.
        (switches,) = ctx.saved_tensors
        switches, signal = switches.flatten(-2), signal.flatten(-2)
        windows = torch.arange(switches.shape[-1], device=switches.device).expand_as(switches)
        no_window = switches.new_full((*ctx.size[:-2], ctx.size[-2] * ctx.size[-1]), -1)
        last_window = no_window.scatter_reduce(-1, switches, windows, "amax")
        unpooled = torch.where(last_window < 0, 0, signal.gather(-1, last_window.clamp(min=0)))
        return unpooled.view(ctx.size), None


def _rectify(x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
    output: Tensor = _Rectify.apply(x, ceiling, inplace)
    return output


def _guide(x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
    output: Tensor = _Guide.apply(x, ceiling, inplace)
    return output


def _pass_through(normalisation: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    output: Tensor = _PassThrough.apply(input, lambda x: normalisation(x, *args, **kwargs))
    return output


def _overwrite(
    pooling: Callable[..., tuple[Tensor, Tensor]], input: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    output_and_switches: tuple[Tensor, Tensor] = _Overwrite.apply(input, lambda x: pooling(x, *args, **kwargs))
    return output_and_switches


#: The paper's rules.
DECONVNET = Rules(rectify=_rectify, normalise=_pass_through, refuse_other_activations=True)

#: Rule sets by name.
#:
#: - `deconvnet`: the paper's.
#: - `overwrite`: the paper's, but where windows share a switch the last of them in row-major order wins, as when unpooling
#:   with `MaxUnpool2d` on a CPU (PyTorch documents no order), which many re-implementations do.
#: - `differentiated-norm`: the paper's, but local response normalisation is differentiated, as captum's deconvolution does.
#: - `guided`: guided backpropagation (Springenberg et al. 2015, "Striving for Simplicity"). The signal passes a ReLU where
#:   it is positive and the forward ReLU was active; normalisation is differentiated.
#: - `gradient`: the derivative of the activation with respect to the pixels (Simonyan et al. 2014); nothing is replaced.
#:   Only this set supports SiLU and the like; the others refuse them, as they are defined by what a ReLU does.
RULES = {
    "deconvnet": DECONVNET,
    "overwrite": replace(DECONVNET, pool=_overwrite),
    "differentiated-norm": replace(DECONVNET, normalise=None),
    "guided": Rules(rectify=_guide, refuse_other_activations=True),
    "gradient": Rules(),
}


def rule_set(rules: str | Rules) -> Rules:
    """The rule set of that name; custom rules are returned as they are. Raises `UsageError` for a name not in `RULES`."""
    if isinstance(rules, Rules):
        return rules
    if not isinstance(rules, str) or rules not in RULES:
        raise UsageError(f"There are no rules {rules!r}; there are {', '.join(RULES)}.")
    return RULES[rules]
