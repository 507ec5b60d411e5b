"""The weights that training starts from."""

from collections.abc import Iterator

from torch import nn


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.01²) and biases 0: section 3's "initialised to 10⁻²", read as cuda-convnet's `initW=0.01`."""
    for layer in _layers(module):
        nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def initialise_he(module: nn.Module) -> None:
    """Weights from N(0, 2 / fan in) and biases 0 (He et al. 2015): signals keep their size through layers with ReLU.

    The first layer and the last start from N(0, 0.01²). The last, so that at first all classes are about equally probable;
    the first, because what it starts from is never forgotten, and of He's size it would still be noise to look at when
    training ends. Inputs have to be larger in turn, of a standard deviation of about 3.
    """
    layers = list(_layers(module))
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in (layers[0], layers[-1]):
        nn.init.normal_(layer.weight, std=0.01)


def _layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            yield part
