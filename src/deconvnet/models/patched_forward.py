"""Run a network on versions of one image, each with another patch pasted in, computing only what the patches can change."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.models.network import Network, as_maps
from deconvnet.tracing import (
    ActivationCache,
    IncrementalForward,
    exact_float32,
    paste,
    run_intercepted,
)


def activation_cache(network: Network, x: Tensor) -> ActivationCache | None:
    """All signals of one input (1, C, H, W), for `forward_patched`.

    None if they cannot be kept, where values are read into Python, or on a GPU, where many small copies cost more than
    the work that they save.
    """
    network.check_input(x)
    if network.device.type != "cpu" or not network.trace.is_fixed or any(step.opaque for step in network.trace.steps):
        return None
    try:
        with exact_float32():
            return ActivationCache(network.trace, network.module, network.module_input(x))
    except torch.OutOfMemoryError:
        raise  # full images need more memory still
    except Exception:  # a module can raise anything, and will again on full images if it has reason to
        return None


def forward_patched(
    network: Network,
    x: Tensor,
    cache: ActivationCache | None,
    patches: Tensor,
    corners: Tensor,
    layer: str,
    unit: int,
) -> tuple[Tensor, Tensor]:
    """Run the module on N copies of the input x (1, C, H, W), each with another patch pasted in.

    `patches` is (N, 3, h, w), `corners` (N, 2) are the rows and columns of their upper left corners. With `cache`, which is
    `activation_cache(network, x)`, only what the patches can change is computed: the same up to rounding. Returns the
    module's output and the feature maps of `unit` of `layer`, (N, rows, columns).
    """
    if cache is not None and cache.usable:
        incremental = _forward_incremental(network, cache, patches, corners, network.layer(layer).index, unit)
        if incremental is not None:
            return incremental
    inputs = x.repeat(len(patches), 1, 1, 1)
    paste(inputs, patches, corners)
    captured: list[Tensor] = []
    with torch.inference_mode():
        returned = network.capture(inputs, [layer], lambda _, maps: captured.append(maps[:, unit].clone()), to_end=True)
    return _output(network, returned, len(patches)), captured[0]


def _output(
    network: Network, returned: Any, count: int, complete: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> Tensor:
    """The module's output; (count, 0) if there is none of a network that is no classifier, such as a detector."""
    try:
        return network.find_output(returned, count, complete)
    except DeconvnetError:
        if network.classifies:
            raise
        return torch.zeros(count, 0)


def _forward_incremental(
    network: Network, cache: ActivationCache, patches: Tensor, corners: Tensor, layer_index: int, unit: int
) -> tuple[Tensor, Tensor] | None:
    """The output and a unit's full feature maps; None, for this cache for good, if the module does not run on crops."""
    captured: list[Tensor] = []
    incremental = IncrementalForward(cache, corners, (patches.shape[2], patches.shape[3]))

    def on_relu(index: int, output: Tensor) -> bool:
        if index == layer_index:
            captured.append(as_maps(incremental.full_maps(output))[:, unit].clone())
        return False

    try:
        with torch.inference_mode(), exact_float32():
            returned = run_intercepted(network.module, network.module_input(patches), on_relu, partial=incremental)
            return _output(network, returned, len(patches), incremental.full_maps), captured[0]
    except torch.OutOfMemoryError:
        raise  # full images need more memory still
    except Exception:  # as above
        cache.usable = False  # whatever a module does with crops, its behaviour on full images decides
        return None
