"""Initial weights for training."""

from collections.abc import Iterator

from torch import nn


def init_normal(module: nn.Module) -> None:
    """Weights from N(0, 0.01²) and biases 0: section 3's "initialised to 10⁻²", read as cuda-convnet's `initW=0.01`."""
    for layer in _weight_layers(module):
        nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def init_he(module: nn.Module) -> None:
    """Weights from N(0, 2 / fan in) and biases 0 (He et al. 2015), which keeps the size of signals through ReLU layers.

    The first and the last layer start from N(0, 0.01²). The last, so that all classes are about equally probable at first.
    The first, because its initial values never vanish entirely: at He's size they would still be visible as noise when
    training ends. In return, inputs need a standard deviation of about 3.
    """
    layers = list(_weight_layers(module))
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in (layers[0], layers[-1]):
        nn.init.normal_(layer.weight, std=0.01)


def _weight_layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Convolutions and fully connected layers, in the order in which the module registers them."""
    for submodule in module.modules():
        if isinstance(submodule, nn.Conv2d | nn.Linear):
            yield submodule
