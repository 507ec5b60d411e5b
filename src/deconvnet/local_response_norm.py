"""Local contrast normalisation across feature maps (Krizhevsky et al. 2012, section 3.3), as one quick function."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from deconvnet.errors import UsageError
from deconvnet.text import printed_as

#: Places (of all maps) that are normalised at once on a CPU: what is made on the way then stays in its cache.
_AT_ONCE = 2048


@dataclass(frozen=True)
class LRNConstants:
    """The constants of b_i = a_i / (k + alpha/n · Σ_j a_j²)^beta, j over the n maps around i.

    `alpha` is divided by `n`, as in PyTorch, Caffe and cuda-convnet's code. Krizhevsky's printed formula does not divide:
    alpha = 5e-4 here computes that one. Zeiler & Fergus give no constants; these are Krizhevsky's.
    """

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __post_init__(self) -> None:
        """Raises `UsageError` for constants that divide by zero."""
        if self.n < 1 or self.k <= 0:
            raise UsageError(f"Contrast normalisation has n = {self.n}, k = {self.k}: n is at least 1, k above 0.")


def lrn(x: Tensor, constants: LRNConstants) -> Tensor:
    """`F.local_response_norm` of (N, C, H, W), as exact and several times as fast.

    With the maps in the last dimension, Σ_j is a product with a matrix that has ones around its diagonal. Computed in
    float32 (float64 for float64) whatever `x` is, and given back in its type, in channels_last.
    """
    if torch.compiler.is_compiling():  # which makes one kernel of it
        return _in_whole(x, constants)
    return _Banded.apply(x, constants)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """`F.local_response_norm`, of maps by `lrn`."""
    if input.dim() != 4 or k <= 0:
        return F.local_response_norm(input, size, alpha, beta, k)
    return lrn(input, LRNConstants(size, alpha, beta, k))


class _Banded(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, constants: LRNConstants) -> Tensor:
        rows = _rows(x)
        # Not made as rows: autograd lets nobody change in place what a function returned as a view.
        _, maps, height, width = x.shape
        output = x.new_empty_strided(x.shape, (height * width * maps, 1, width * maps, maps))
        band = _band(rows, constants)
        for part, out in zip(_parts(rows), _parts(_rows(output)), strict=True):
            a = part.to(band.dtype)
            out.copy_(_power(_scale(a, band, constants), constants.beta).mul_(a))
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, LRNConstants], output: Tensor) -> None:
        x, ctx.constants = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """g_i / s_i^beta − 2 beta alpha/n · a_i · Σ_j g_j a_j / s_j^(beta+1), j over the maps that have i around them."""
        (x,) = ctx.saved_tensors
        constants: LRNConstants = ctx.constants
        if torch.is_grad_enabled():  # this gradient is to be differentiated in turn
            return torch.func.vjp(lambda x: _in_whole(x, constants), x)[1](gradient)[0], None
        rows, gradients = _rows(x), _rows(gradient)
        output = rows.new_empty(rows.shape)
        band = _band(rows, constants)
        for part, g, out in zip(_parts(rows), _parts(gradients), _parts(output), strict=True):
            a = part.to(band.dtype)
            scale = _scale(a, band, constants)
            direct = _power(scale, constants.beta).mul_(g)
            around = _product((direct * a).div_(scale), band.T).mul_(a)
            out.copy_(direct.sub_(around, alpha=2 * constants.beta))
        return _maps(output, x), None


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N·H·W, C), without a copy if `x` is in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    number, maps, height, width = like.shape
    return rows.view(number, height, width, maps).permute(0, 3, 1, 2)


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, _AT_ONCE) if rows.device.type == "cpu" else (rows,)


def _precision(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _band(rows: Tensor, constants: LRNConstants) -> Tensor:
    """(C, C): row j, column i is alpha/n if map j is among the n around map i."""
    maps, n = rows.shape[1], constants.n
    filled = torch.full((maps, maps), constants.alpha / n, dtype=_precision(rows), device=rows.device)
    return filled.tril_(n // 2).triu_(-((n - 1) // 2))


def _scale(a: Tensor, band: Tensor, constants: LRNConstants) -> Tensor:
    return _product(a * a, band).add_(constants.k)


def _product(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):  # which would compute it in its own type
        return torch.mm(a, b)


def _power(scale: Tensor, beta: float) -> Tensor:
    """scale^−beta. Roots take a third of the time of a power."""
    if beta != 0.75:
        return scale.pow(-beta)
    root = scale.rsqrt()
    return root.sqrt().mul_(root)


def _in_whole(x: Tensor, constants: LRNConstants) -> Tensor:
    a = x.to(_precision(x))
    n, maps = constants.n, x.shape[1]
    squares = F.pad(a * a, (0, 0, 0, 0, n // 2, (n - 1) // 2))
    around = torch.stack([squares[:, i : i + maps] for i in range(n)]).sum(dim=0)
    scale = around * (constants.alpha / n) + constants.k
    return (a * scale.pow(-constants.beta)).to(x.dtype)


@printed_as("LocalResponseNorm")
class LocalResponseNorm(nn.Module):
    """Divides each activation by a measure of the activations of neighbouring maps at the same place."""

    def __init__(self, constants: LRNConstants) -> None:
        super().__init__()
        self.constants = constants

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        c = self.constants
        if has_torch_function_unary(x):  # whoever watches, such as a projection, knows torch's own function
            return F.local_response_norm(x, c.n, c.alpha, c.beta, c.k)
        return lrn(x, c)

    def extra_repr(self) -> str:
        c = self.constants
        return f"ContrastConstants(n={c.n!r}, alpha={c.alpha!r}, beta={c.beta!r}, k={c.k!r})"
