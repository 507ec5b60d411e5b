"""The layer that normalises across feature maps."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from deconvnet.contrast_norm import ContrastConstants, contrast_norm
from deconvnet.networks.printed import printed_as


@printed_as("ContrastNorm")
class ContrastNorm(nn.Module):
    """Divides each activation by a measure of the activations of neighbouring maps at the same place."""

    def __init__(self, constants: ContrastConstants) -> None:
        super().__init__()
        self.constants = constants

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        c = self.constants
        if has_torch_function_unary(x):  # whoever watches, such as a projection, knows torch's own function
            return F.local_response_norm(x, c.n, c.alpha, c.beta, c.k)
        return contrast_norm(x, c)

    def extra_repr(self) -> str:
        c = self.constants
        return f"ContrastConstants(n={c.n!r}, alpha={c.alpha!r}, beta={c.beta!r}, k={c.k!r})"
