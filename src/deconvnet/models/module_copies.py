"""Copies of a module around the same parameters, for what must not meet the state that a module keeps from pass to pass."""

import copy
from types import FunctionType

from torch import nn


def copy_module(module: nn.Module) -> nn.Module | None:
    """A copy of the module around the same parameters; None if it cannot be copied or would still call the original."""
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
