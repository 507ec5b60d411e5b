"""Which torch calls are linear, so that a projection passes them by their transpose as the paper does."""

from collections.abc import Callable
from typing import Any

#: Functions, by name, that are linear or choose among their inputs; some only while they do not multiply two signals.
_LINEAR = frozenset(
    """
    conv2d conv_transpose2d linear batch_norm avg_pool2d adaptive_avg_pool2d max_pool2d max_pool2d_with_indices
    adaptive_max_pool2d adaptive_max_pool2d_with_indices boolean_dispatch fn pad interpolate upsample pixel_shuffle
    pixel_unshuffle channel_shuffle mean sum amax max maximum minimum add add_ __add__ __iadd__ __radd__ sub sub_ __sub__
    __isub__ __rsub__ rsub neg mul mul_ __mul__ __imul__ __rmul__ div div_ __truediv__ __itruediv__ true_divide
    einsum cat concat concatenate stack chunk unsafe_chunk split unsafe_split split_with_sizes tensor_split hsplit
    unbind narrow select index_select __getitem__ view view_as reshape
    unflatten flatten squeeze unsqueeze transpose swapaxes permute movedim t expand expand_as repeat flip roll unfold
    dropout dropout_ dropout1d dropout2d feature_dropout alpha_dropout contiguous clone detach detach_ to float
    double half bfloat16 type
    type_as __get__
    """.split()
)
_PRODUCTS = frozenset(
    "mul mul_ __mul__ __imul__ __rmul__ div div_ __truediv__ __itruediv__ true_divide".split()
    + "conv2d conv_transpose2d linear einsum".split()
)
#: Those that choose among their inputs; `boolean_dispatch` and `fn` are how some poolings are called.
_CHOICES = frozenset(
    """
    max_pool2d max_pool2d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices boolean_dispatch fn amax max
    maximum minimum
    """.split()
)


def is_linear(func: Callable[..., Any], signal_count: int) -> bool:
    """Is the call linear in its inputs, or a choice among them? `signal_count` of them depend on the network's input."""
    name = getattr(func, "__name__", "")
    return name in _LINEAR and not (name in _PRODUCTS and signal_count > 1)


def chooses_by_value(func: Callable[..., Any]) -> bool:
    """Does the call choose among its inputs by their values, so that its transpose depends on these?"""
    return getattr(func, "__name__", "") in _CHOICES
