"""Local response normalisation across feature maps (Krizhevsky et al. 2012, section 3.3), exact and fast on a CPU.

Zeiler & Fergus call it contrast normalisation.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from deconvnet.errors import UsageError
from deconvnet.formatting import repr_name

#: Positions (of all maps) normalised at a time on a CPU, so that intermediate results stay in its cache.
_POSITIONS_PER_CHUNK = 2048


@dataclass(frozen=True)
class LRNConstants:
    """The constants of b_i = a_i / (k + alpha/n · Σ_j a_j²)^beta, j over the n maps around i.

    `alpha` is divided by `n`, as in PyTorch, Caffe and cuda-convnet's code. Krizhevsky's printed formula does not divide:
    alpha = 5e-4 here computes that one. Zeiler & Fergus give no constants; these are Krizhevsky's.

    Raises `UsageError` for constants that divide by zero.
    """

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __post_init__(self) -> None:
        if self.n < 1 or self.k <= 0:
            raise UsageError(f"Contrast normalisation has n = {self.n}, k = {self.k}: n is at least 1, k above 0.")


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """`F.local_response_norm`, equal up to rounding and for (N, C, H, W) several times as fast.

    Computed in float32 (float64 for float64) whatever `input` is. The output has the type of `input` and, for
    (N, C, H, W), is in channels_last.
    """
    if input.dim() != 4 or k <= 0:
        return F.local_response_norm(input, size, alpha, beta, k)
    return _normalise(input, LRNConstants(size, alpha, beta, k))


def normalise_by(x: Tensor, module: nn.Module) -> Tensor:
    """The output of `module`, another implementation of local response normalisation, for `x` (N, C, H, W).

    A trace or projection intercepts this as it does torch's own function.
    """
    if has_torch_function_unary(x):
        output: Tensor = handle_torch_function(normalise_by, (x,), x, module)
        return output
    result: Tensor = module(x)
    return result


@repr_name("ContrastNorm")
class LocalResponseNorm(nn.Module):
    """Local response normalisation of (N, C, H, W) as a module."""

    def __init__(self, constants: LRNConstants) -> None:
        super().__init__()
        self.constants = constants

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        c = self.constants
        if has_torch_function_unary(x):  # a trace or projection intercepts torch's own function
            return F.local_response_norm(x, c.n, c.alpha, c.beta, c.k)
        return _normalise(x, c)

    def extra_repr(self) -> str:
        c = self.constants
        return f"ContrastConstants(n={c.n!r}, alpha={c.alpha!r}, beta={c.beta!r}, k={c.k!r})"  # old name: see `repr_name`


def _normalise(x: Tensor, constants: LRNConstants) -> Tensor:
    if torch.compiler.is_compiling():  # fuses the plain formula into one kernel
        return _plain_formula(x, constants)
    return _BandedProduct.apply(x, constants)


class _BandedProduct(torch.autograd.Function):
    """With the maps in the last dimension, Σ_j is a product with a matrix that is alpha/n near its diagonal and else 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, constants: LRNConstants) -> Tensor:
        rows = _to_rows(x)
        # Allocated as maps, not as rows: autograd forbids changing in place a view that a function returned.
        _, maps, height, width = x.shape
        output = x.new_empty_strided(x.shape, (height * width * maps, 1, width * maps, maps))
        band = _band_matrix(rows, constants)
        for chunk, out in zip(_chunks(rows), _chunks(_to_rows(output)), strict=True):
            a = chunk.to(band.dtype)
            out.copy_(_negative_power(_scale(a, band, constants), constants.beta).mul_(a))
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, LRNConstants], output: Tensor) -> None:
        x, ctx.constants = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """g_i / s_i^beta − 2 beta alpha/n · a_i · Σ_j g_j a_j / s_j^(beta+1), with s of `_scale`, j over the maps in whose
        sum i appears.
        """
        (x,) = ctx.saved_tensors
        constants: LRNConstants = ctx.constants
        if torch.is_grad_enabled():  # the gradient itself will be differentiated
            return torch.func.vjp(lambda x: _plain_formula(x, constants), x)[1](gradient)[0], None
        rows, gradients = _to_rows(x), _to_rows(gradient)
        output = rows.new_empty(rows.shape)
        band = _band_matrix(rows, constants)
        for chunk, g, out in zip(_chunks(rows), _chunks(gradients), _chunks(output), strict=True):
            a = chunk.to(band.dtype)
            scale = _scale(a, band, constants)
            through_numerator = _negative_power(scale, constants.beta).mul_(g)
            through_scale = _matmul((through_numerator * a).div_(scale), band.T).mul_(a)
            out.copy_(through_numerator.sub_(through_scale, alpha=2 * constants.beta))
        return _to_maps(output, x), None


def _to_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N·H·W, C), without a copy if `x` is in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])


def _to_maps(rows: Tensor, like: Tensor) -> Tensor:
    """(N·H·W, C) → (N, C, H, W), the shape of `like`."""
    batch_size, maps, height, width = like.shape
    return rows.view(batch_size, height, width, maps).permute(0, 3, 1, 2)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, _POSITIONS_PER_CHUNK) if rows.device.type == "cpu" else (rows,)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _band_matrix(rows: Tensor, constants: LRNConstants) -> Tensor:
    """(C, C): row j, column i is alpha/n if map j is among the n around map i, else 0."""
    maps, n = rows.shape[1], constants.n
    full = torch.full((maps, maps), constants.alpha / n, dtype=_compute_dtype(rows), device=rows.device)
    return full.tril_(n // 2).triu_(-((n - 1) // 2))


def _scale(a: Tensor, band: Tensor, constants: LRNConstants) -> Tensor:
    """s_i = k + alpha/n · Σ_j a_j², for rows of activations."""
    return _matmul(a * a, band).add_(constants.k)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):  # autocast would compute it in a lower precision
        return torch.mm(a, b)


def _negative_power(scale: Tensor, beta: float) -> Tensor:
    """scale^−beta. Roots take a third of the time of a power."""
    if beta != 0.75:
        return scale.pow(-beta)
    root = scale.rsqrt()
    return root.sqrt().mul_(root)


def _plain_formula(x: Tensor, constants: LRNConstants) -> Tensor:
    """The definition, in differentiable operations."""
    a = x.to(_compute_dtype(x))
    n, maps = constants.n, x.shape[1]
    squares = F.pad(a * a, (0, 0, 0, 0, n // 2, (n - 1) // 2))
    sums = torch.stack([squares[:, i : i + maps] for i in range(n)]).sum(dim=0)
    scale = sums * (constants.alpha / n) + constants.k
    return (a * scale.pow(-constants.beta)).to(x.dtype)
