"""Local contrast normalisation across feature maps (Krizhevsky et al. 2012, section 3.3)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UsageError


@dataclass(frozen=True)
class ContrastConstants:
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


class ContrastNorm(nn.Module):
    """Divides each activation by a measure of the activations of neighbouring maps at the same place."""

    def __init__(self, constants: ContrastConstants) -> None:
        super().__init__()
        self.constants = constants

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        c = self.constants
        return F.local_response_norm(x, c.n, c.alpha, c.beta, c.k)

    def extra_repr(self) -> str:
        return str(self.constants)
