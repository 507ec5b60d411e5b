"""The weights that training starts from."""

from torch import nn


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.01²) and biases 0: section 3's "initialised to 10⁻²", read as cuda-convnet's `initW=0.01`."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.normal_(part.weight, std=0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
