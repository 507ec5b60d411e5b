"""ZFNet and its training step as anybody would write them with torch.nn: float32, the default layout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def zfnet(classes: int = 1000, hidden: int = 4096) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        nn.Conv2d(96, 256, 5, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, classes),
    )


def step(module: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> float:
    """Forward, backward, update, and section 3's limit on the filters; returns the loss."""
    loss = F.cross_entropy(module(inputs), targets)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                rms = part.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
                part.weight.mul_((0.1 / rms).clamp(max=1))
    return loss.item()
