"""What replaces the derivative of each operation on the way down (section 2.1, and its ECCV text on normalisation).

A deconvnet is the backward pass of the very network that made the activation, with two rules changed:

- ReLU: the signal coming down is itself rectified; where the forward ReLU was active does not matter.
- Contrast normalisation: the signal passes unchanged.

All else is already what the paper says. Autograd's transposed convolution drops the bias and keeps groups, strides and
sizes. Its max pooling sends the signal to the switch, and adds where windows share one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

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


class _PassDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        return F.local_response_norm(x, size, alpha, beta, k)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None, None, None]:
        return signal, None, None, None, None


def _rectify(x: Tensor, ceiling: float | None, inplace: bool) -> Tensor:
    output: Tensor = _Rectify.apply(x, ceiling, inplace)
    return output


def _pass_down(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    output: Tensor = _PassDown.apply(input, size, alpha, beta, k)
    return output


#: The paper's rules.
DECONVNET = Rules(rectify=_rectify, normalise=_pass_down, refuse_relatives=True)
