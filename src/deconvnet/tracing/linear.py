"""Fully connected layers, quick on every CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: oneDNN's product, which `torch.compile` uses too; None where a build of PyTorch has none.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`. Without a gradient on a CPU by oneDNN: MKL, which PyTorch takes, is half as fast on AMD's processors."""
    quick = (
        _ONEDNN is not None
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
        and input.dim() == 2
        and len(input) > 1
        and input.device.type == "cpu"
        and all(_is_plain(tensor) for tensor in (input, weight))
        and (bias is None or (_is_plain(bias) and bias.dim() == 1 and bias.is_contiguous()))  # whose strides it ignores
        and not torch.is_autocast_enabled("cpu")
    )
    if quick:
        output: Tensor = _ONEDNN(input, weight, bias, "none", [], "")
        return output
    return F.linear(input, weight, bias)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is of PyTorch's own type, in float32, and holds something."""
    own = type(tensor) in (Tensor, nn.Parameter)
    return own and tensor.dtype == torch.float32 and tensor.layout is torch.strided and tensor.numel() > 0
