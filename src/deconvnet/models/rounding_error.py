"""How far rounding takes a network's activations from exact ones, measured against float64 on the CPU."""

import copy
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from deconvnet.models.network import Network

#: The error, in units of the dtype's eps, that is assumed where it cannot be measured.
_ASSUMED_EPS = 64

#: What was measured, for as long as the networks are in use.
_MEASURED: WeakKeyDictionary[Network, dict[str, float]] = WeakKeyDictionary()


def probe_image(network: Network) -> Tensor:
    """(1, C, H, W) float32: a fixed image of noise as the network's input, on the CPU."""
    if not network.input_space.reads_photos:
        return torch.randn(1, *network.input_shape, generator=torch.Generator().manual_seed(0))
    size = network.preprocessing.crop
    noise = torch.randint(256, (size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return network.preprocess(Image.fromarray(noise.numpy()))[None]


def rounding_errors(network: Network) -> dict[str, float]:
    """By layer, the largest error of its activations for the probe image, as a fraction of the largest of these.

    The errors are those of the network's dtype on its device, such as 10⁻⁷ to 10⁻⁶ in float32; at least the dtype's eps. Of
    a module that cannot be copied or run in float64, and of layers that do not respond, 64 eps are assumed.
    """
    if network not in _MEASURED:
        _MEASURED[network] = _measure(network)
    return _MEASURED[network]


def _measure(network: Network) -> dict[str, float]:
    eps = torch.finfo(network.dtype).eps
    errors = dict.fromkeys(network.layers, _ASSUMED_EPS * eps)
    try:
        exact = _activations(network.with_module(copy.deepcopy(network.module).to("cpu", torch.float64)))
    except Exception:  # a module can raise anything
        return errors
    rounded = _activations(network)
    for name, maps in exact.items():
        largest = float(maps.abs().amax())
        if largest > 0:
            errors[name] = max(eps, float((rounded[name] - maps).abs().amax()) / largest)
    return errors


def _activations(network: Network) -> dict[str, Tensor]:
    """By layer, its activations for the probe image, float64 on the CPU."""
    activations: dict[str, Tensor] = {}

    def keep(name: str, maps: Tensor) -> None:
        activations[name] = maps.to("cpu", torch.float64, copy=True)  # the module may overwrite the maps

    with torch.inference_mode():
        network.capture(probe_image(network), network.layers, keep)
    return activations
