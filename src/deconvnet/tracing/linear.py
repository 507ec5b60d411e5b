"""Fully connected layers, quick on every CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: oneDNN's product, which `torch.compile` uses too; None where a build of PyTorch has none.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`. Without a gradient on a CPU by oneDNN: MKL, which PyTorch takes, is half as fast on AMD's processors."""
    quick = (
        _ONEDNN is not None
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_grad_enabled()
        and input.dim() == 2
        and len(input) > 1
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
    if quick:
        output: Tensor = _ONEDNN(input, weight, bias, "none", [], "")
        return output
    return F.linear(input, weight, bias)
