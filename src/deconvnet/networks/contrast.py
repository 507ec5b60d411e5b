"""The layer that normalises across feature maps."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from deconvnet.contrast_norm import ContrastConstants, contrast_norm


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
        return str(self.constants)
