"""Copies of a module around the same parameters, where it cannot be used as it is or must not be changed."""

import copy
import warnings
from types import FunctionType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from deconvnet.errors import DeconvnetWarning, UsageError
from deconvnet.models.lrn_lookalikes import wrap_lookalikes


def runnable_module(module: nn.Module, name: str) -> nn.Module:
    """The module, or a copy around the same weights that projections can pass. `name` is the network's, for messages.

    Raises `UsageError` for a module whose weights have no shape yet.
    """
    tensors = (*module.parameters(), *module.buffers())
    if any(is_lazy(tensor) for tensor in tensors):
        raise UsageError(f"{name} has lazy layers, which have no weights yet: run it once, on an input of its size, first.")
    if any(tensor.is_inference() for tensor in tensors):
        with torch.inference_mode(False):
            module = copy.deepcopy(module)
    module, lookalikes = wrap_lookalikes(module)
    if lookalikes:
        warnings.warn(
            f"{', '.join(lookalikes)} of {name} {'computes' if len(lookalikes) == 1 else 'compute'} local response "
            "normalisation: projections pass it unchanged, as in the paper.",
            DeconvnetWarning,
            stacklevel=3,
        )
    return module


def copy_module(module: nn.Module) -> nn.Module | None:
    """A copy of the module that shares its parameters but none of its other state.

    None if it cannot be copied or would still call the original.
    """
    if _refers_to_original(module):
        return None
    try:
        return copy.deepcopy(module, {id(tensor): tensor for tensor in module.parameters()})
    except Exception:  # a module can raise anything
        return None


def _refers_to_original(module: nn.Module) -> bool:
    """Whether copies would call the original: hooks, and functions in attributes, hold modules that are not copied."""
    for submodule in module.modules():
        for name, value in vars(submodule).items():
            if name.endswith("_hooks") and value:
                return True
            if isinstance(value, FunctionType) and (value.__closure__ or value.__name__ == "<lambda>" or name == "forward"):
                return True
    return False
