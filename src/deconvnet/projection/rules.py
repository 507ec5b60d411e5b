"""What replaces the derivative of each operation on the way down (section 2.1, and its ECCV text on normalisation).

A deconvnet is the backward pass of the very network that made the activation, with two rules changed:

- ReLU: the signal coming down is itself rectified; where the forward ReLU was active does not matter.
- Contrast normalisation: the signal passes unchanged.

All else is already what the paper says. Autograd's transposed convolution drops the bias and keeps groups, strides and
sizes. Its max pooling sends the signal to the switch, and adds where windows share one.

Other methods, and other readings of the paper, are other rule sets of the same backward pass: `RULES`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from deconvnet.errors import UsageError
from deconvnet.local_response_norm import local_response_norm
from deconvnet.tracing import Rules


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)  # so that `x.relu_()` as a statement is seen by whatever uses x next
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


class _PassDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        return local_response_norm(x, size, alpha, beta, k)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None, None, None]:
        return signal, None, None, None, None


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
        # Scattering the signal itself would leave the order of writing, and so the winner, to the device.
        (switches,) = ctx.saved_tensors
        switches, signal = switches.flatten(-2), signal.flatten(-2)
        windows = torch.arange(switches.shape[-1], device=switches.device).expand_as(switches)
        nobody = switches.new_full((*ctx.size[:-2], ctx.size[-2] * ctx.size[-1]), -1)
        last = nobody.scatter_reduce(-1, switches, windows, "amax")
        down = torch.where(last < 0, 0, signal.gather(-1, last.clamp(min=0)))
        return down.view(ctx.size), None


def _rectify(x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
    output: Tensor = _Rectify.apply(x, ceiling, inplace)
    return output


def _guide(x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
    output: Tensor = _Guide.apply(x, ceiling, inplace)
    return output


def _pass_down(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    output: Tensor = _PassDown.apply(input, size, alpha, beta, k)
    return output


def _overwrite(
    pooling: Callable[..., tuple[Tensor, Tensor]], input: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _Overwrite.apply(input, lambda x: pooling(x, *args, **kwargs))
    return found


#: The paper's rules.
DECONVNET = Rules(rectify=_rectify, normalise=_pass_down, refuse_other_activations=True)

#: Rule sets by name.
#:
#: - `deconvnet`: the paper's.
#: - `overwrite`: the paper's, but where windows share a switch the last of them in row-major order wins: what comes of
#:   unpooling with `MaxUnpool2d`, as many re-implementations do (it promises no order; on a CPU it is this one).
#: - `differentiated-norm`: the paper's, but contrast normalisation is differentiated, as captum's deconvolution does.
#: - `guided`: guided backpropagation (Springenberg et al. 2015, "Striving for Simplicity"). The signal passes a ReLU where
#:   it is positive and the forward ReLU was active; normalisation is differentiated.
#: - `gradient`: the derivative of the activation by the pixels (Simonyan et al. 2014); nothing is replaced. Every
#:   activation function has one. The other rules refuse SiLU and the like, being defined by what a ReLU does.
RULES = {
    "deconvnet": DECONVNET,
    "overwrite": replace(DECONVNET, pool=_overwrite),
    "differentiated-norm": replace(DECONVNET, normalise=None),
    "guided": Rules(rectify=_guide, refuse_other_activations=True),
    "gradient": Rules(),
}


def rule_set(rules: str | Rules) -> Rules:
    """The rules of that name; rules of your own as they are. Raises `UsageError` for a name that is not in `RULES`."""
    if isinstance(rules, Rules):
        return rules
    if not isinstance(rules, str) or rules not in RULES:
        raise UsageError(f"There are no rules {rules!r}; there are {', '.join(RULES)}.")
    return RULES[rules]
