"""A network of plain functions."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class RectifiedSteps(nn.Module):
    """Runs functions one after the other, each followed by a ReLU."""

    def __init__(self, *steps: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = F.relu(step(x))
        return x
