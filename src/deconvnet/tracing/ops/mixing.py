"""Which torch calls mix all elements along some dimensions, which only move elements, and which read where the data say."""

import string
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from deconvnet.tracing.ops.metadata import is_assignment
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, argument, iter_tensors
from deconvnet.tracing.ops.spellings import function_name

#: Functions, by name, that return elements of their arguments elsewhere, or zeros, and look at no value.
_MOVING = frozenset(
    """
    view view_as reshape reshape_as _unsafe_view unflatten flatten ravel squeeze unsqueeze transpose swapaxes swapdims
    permute movedim moveaxis t T mT __getitem__ narrow select index_select flip fliplr flipud rot90 roll pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle unfold expand expand_as broadcast_to repeat tile repeat_interleave
    cat concat concatenate stack hstack vstack dstack chunk unsafe_chunk split unsafe_split split_with_sizes tensor_split
    hsplit vsplit dsplit unbind diagonal take_along_dim gather __setitem__ slice
    """.split()
)
#: Functions, by name, that mix along the dimensions of the argument `dim`, with its index and whether it stays by default.
_REDUCTIONS = frozenset(
    "mean sum nansum nanmean amax amin max min std var std_mean var_mean norm logsumexp prod median all any".split()
)
_ALONG = frozenset("softmax log_softmax softmin cumsum cumprod cummax sort argsort".split())
_NORMS_OF_LAST_DIMS = frozenset(["layer_norm", "rms_norm"])
#: Functions, by name, that read where a tensor says.
_SAMPLING = frozenset(["grid_sample", "grid_sampler", "deform_conv2d"])
#: Functions that take indices, which may be tensors.
_INDEXING = frozenset(["__getitem__", "index_select", "gather", "take_along_dim", "take", "max_unpool2d", "masked_select"])


_JOINING = frozenset("cat concat concatenate stack hstack vstack dstack".split())
#: Products of tensors, by name: the labels of the last dimensions of each argument, and of the output.
_PRODUCTS = {
    "linear": (("i", "oi", "o"), "o"),
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm"), (("ij", "jk"), "ik")),
    "__rmatmul__": (("jk", "ij"), "ik"),
    **dict.fromkeys(("addmm", "baddbmm"), (("ik", "ij", "jk"), "ik")),
    "scaled_dot_product_attention": (("ij", "kj", "kl", "ik"), "il"),
}


def moves_elements(func: Callable[..., Any]) -> bool:
    """Does the call return elements of its arguments, or zeros, without looking at any value?"""
    name = function_name(func)
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") in ("T", "mT")
    return name in _MOVING


def joins(func: Callable[..., Any]) -> bool:
    """Does the call join tensors?"""
    return function_name(func) in _JOINING


def reads_where_data_say(func: Callable[..., Any], args: Args, signals: Sequence[int | None]) -> bool:
    """Do the values of a signal decide what the call reads or writes? `signals` has one, or None, for each tensor."""
    name = function_name(func)
    if is_assignment(func):
        indices = len(list(iter_tensors(args[1])))
        return any(signal is not None for signal in signals[1 : 1 + indices])
    return name in _SAMPLING | _INDEXING and any(signal is not None for signal in signals[1:])


def product_labels(func: Callable[..., Any], args: Args, dims: Sequence[int]) -> tuple[list[str], str] | None:
    """A product of tensors in the notation of Einstein's sums: labels of the dimensions of each argument, and of the output.

    `dims` are the numbers of the arguments' dimensions. None for other calls, and for sums that are written in other ways.
    """
    name = function_name(func)
    if name == "einsum":
        if not isinstance(args[0], str):
            return None
        left, _, right = args[0].replace(" ", "").partition("->")
        labels = left.split(",")
        is_plain = "->" in args[0] and "." not in args[0] and all(len(set(label)) == len(label) for label in labels)
        return (labels, right) if is_plain else None
    if name not in _PRODUCTS:
        return None
    ends, result = _PRODUCTS[name]
    batch = string.ascii_uppercase[: max(dims) - len(result)]
    labels = []
    for end, count in zip(ends, dims, strict=False):
        if count < len(end):  # a vector
            return None
        labels.append(batch[len(batch) + len(end) - count :] + end)
    return labels, batch + result


def mixed_dims(func: Callable[..., Any], args: Args, kwargs: Kwargs, dims: int) -> tuple[list[int], bool] | None:
    """The dimensions along which the call mixes all elements of its first argument, of `dims` dimensions, and whether they
    stay in its output; None for other calls.
    """
    name = function_name(func)
    everything = list(range(dims))
    if name in _NORMS_OF_LAST_DIMS:
        shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
        return everything[dims - (1 if isinstance(shape, int) else len(shape)) :], True
    if name in ("local_response_norm", "normalise_by"):
        return [1], True
    if name == "instance_norm":
        return everything[2:], True
    if name == "group_norm":
        return everything[1:], True
    if name == "normalize":
        return _as_dims(argument(args, kwargs, 2, "dim", default=1), everything), True
    if name in _ALONG:
        return _as_dims(argument(args, kwargs, 1, "dim"), everything), True
    if name not in _REDUCTIONS or any(isinstance(value, Tensor) for value in args[1:]):
        return None
    index = 2 if name == "norm" else 1
    keep = argument(args, kwargs, index + 1, "keepdim", "keepdims", default=False)
    if name in ("std", "var", "std_mean", "var_mean"):
        keep = kwargs.get("keepdim", args[3] if len(args) > 3 else False)
        if isinstance(argument(args, kwargs, 1, "dim"), bool):
            return everything, False
    return _as_dims(argument(args, kwargs, index, "dim", "axis"), everything), bool(keep)


def _as_dims(value: Any, everything: list[int]) -> list[int]:
    if value is None or (isinstance(value, list | tuple) and not value):
        return everything
    return [dim % len(everything) for dim in (value if isinstance(value, list | tuple) else [value])]
