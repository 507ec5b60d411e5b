"""Which torch calls read a tensor's shape, its other metadata, or nothing of its values; and which assign to it."""

from collections.abc import Callable
from typing import Any

import torch

from deconvnet.tracing.ops.spellings import function_name

#: Not `stride` and `storage_offset`: a crop lies in memory otherwise than the whole.
_SHAPE_METHODS = frozenset("size dim ndimension numel nelement sym_size sym_numel sym_stride __len__ is_contiguous".split())
_SHAPE_ATTRIBUTES = frozenset([torch.Tensor.shape.__get__, torch.Tensor.ndim.__get__])  # type: ignore[attr-defined]
_VALUE_ATTRIBUTES = frozenset(getattr(torch.Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "data", "real", "imag"))
_METADATA_METHODS = frozenset(
    "is_floating_point is_complex is_signed element_size get_device has_names is_inference".split()
)
_HOOK_REGISTRATIONS = frozenset("register_hook register_post_accumulate_grad_hook retain_grad".split())
_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]
_CONSTANT_CREATION = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty".split()
)


def is_shape_query(func: Callable[..., Any]) -> bool:
    """Does the call depend on its inputs' shapes alone: `x.shape`, `x.size()`, `torch.zeros_like(x)`?"""
    return func in _SHAPE_ATTRIBUTES or function_name(func) in _SHAPE_METHODS or is_constant_creation(func)


def is_constant_creation(func: Callable[..., Any]) -> bool:
    """Does the call return a new tensor that does not depend on its inputs' values, as `torch.zeros_like` does?"""
    return function_name(func) in _CONSTANT_CREATION


def is_metadata_access(func: Callable[..., Any]) -> bool:
    """Does the call read neither shape nor values, as `x.requires_grad` and `x.is_floating_point()` do?

    Foreign hooks do that at any time, so it is no step of a trace.
    """
    name = function_name(func)
    is_other_attribute = name == "__get__" and func not in _SHAPE_ATTRIBUTES and func not in _VALUE_ATTRIBUTES
    return name in _METADATA_METHODS or is_other_attribute


def is_in_place(func: Callable[..., Any]) -> bool:
    """Is it a function that changes its first tensor, by its name: `add_`, `x += y`? (A ReLU may do so by an argument.)"""
    name = function_name(func)
    return name.startswith("__i") if name.endswith("__") else name.endswith("_")


def changes_input(func: Callable[..., Any]) -> bool:
    """Does it change its first tensor, by its name or as an assignment?"""
    return is_in_place(func) or is_assignment(func)


def overwrites_input(func: Callable[..., Any]) -> bool:
    """Does it change its first tensor without reading its values?"""
    return function_name(func) in ("copy_", "fill_", "zero_", "normal_", "uniform_")


def is_assignment(func: Callable[..., Any]) -> bool:
    """Is it `x[...] = y`, which changes x and returns None?"""
    return func is torch.Tensor.__setitem__


def is_hook_registration(func: Callable[..., Any]) -> bool:
    """Does it ask for something to be done in a backward pass: `x.register_hook(…)`, `x.retain_grad()`?"""
    return function_name(func) in _HOOK_REGISTRATIONS


def has_no_gradient(func: Callable[..., Any]) -> bool:
    """Does no signal pass back through it: `x.detach()`, `x.data`, what is quantised?"""
    is_quantised = str(func).startswith("quantized.") or function_name(func).startswith("quantize_per_")
    return is_quantised or function_name(func) in ("detach", "detach_") or func == _DATA
