"""The layer that normalises across feature maps."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from deconvnet.local_response_norm import LRNConstants, lrn
from deconvnet.models.printed import printed_as


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
