"""Which torch calls are linear, so that a projection passes them by their transpose as the paper does."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from deconvnet.tracing.ops.nested_tensors import Args, Kwargs
from deconvnet.tracing.ops.spellings import function_name

#: Functions, by name, that are linear or choose among their inputs.
_LINEAR = frozenset(
    """
    avg_pool2d adaptive_avg_pool2d max_pool2d max_pool2d_with_indices
    adaptive_max_pool2d adaptive_max_pool2d_with_indices boolean_dispatch fn pad interpolate upsample pixel_shuffle
    pixel_unshuffle channel_shuffle mean sum amax max maximum minimum add add_ __add__ __iadd__ __radd__ sub sub_ __sub__
    __isub__ __rsub__ rsub neg cat concat concatenate stack chunk unsafe_chunk split unsafe_split split_with_sizes
    tensor_split hsplit
    unbind narrow select view view_as reshape
    unflatten flatten squeeze unsqueeze transpose swapaxes swapdims permute movedim moveaxis t expand expand_as repeat flip
    flipud fliplr rot90 roll unfold fold as_strided cumsum tril triu diagonal requires_grad_ zero_
    dropout dropout_ dropout1d dropout2d feature_dropout alpha_dropout contiguous clone detach detach_ to float
    double half bfloat16 type
    type_as __get__
    """.split()
)
#: Those that are linear while they do not multiply two signals.
_PRODUCTS = frozenset("mul mul_ __mul__ __imul__ __rmul__ einsum matmul mm bmm mv __matmul__ __rmatmul__ tensordot".split())
#: Those that are linear in their first tensor alone: not in a divisor, a filter, a bias or an index.
_LINEAR_IN_FIRST = frozenset(
    """
    div div_ __truediv__ __itruediv__ true_divide conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    linear batch_norm __getitem__ index_select gather repeat_interleave
    """.split()
)
#: Those that choose among their inputs; `boolean_dispatch` and `fn` are how some poolings are called.
_CHOICES = frozenset(
    """
    max_pool2d max_pool2d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices boolean_dispatch fn amax max
    maximum minimum
    """.split()
)


def is_linear(func: Callable[..., Any], inputs: Sequence[int | None], args: Args, kwargs: Kwargs) -> bool:
    """Is the call linear in its inputs, or a choice among them, of several tensors or of the places of one?

    `inputs` has the signal of each tensor argument, or None for one that does not depend on the network's input.
    """
    name = function_name(func)
    if name in ("amax", "max") and len(inputs) == 1 and not _is_over_places(*args, **kwargs):
        return False
    signals = [index for index, signal in enumerate(inputs) if signal is not None]
    if name in _PRODUCTS:
        return len(signals) == 1
    if name in _CHOICES and len(signals) < len(inputs):
        return False  # a choice between a signal and a constant, which has no way down
    if name in _LINEAR_IN_FIRST:
        return signals == [0]
    return name in _LINEAR


def _is_over_places(input: Tensor, dim: Any = None, *_: Any, **options: Any) -> bool:
    """Is a maximum over dimensions of (N, C, …) one over places alone?"""
    dim = options.get("axis", dim)
    dims = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return bool(dims) and all(each % input.dim() >= 2 for each in dims)


def chooses_by_value(func: Callable[..., Any]) -> bool:
    """Does the call choose among its inputs by their values, so that its transpose depends on these?"""
    return function_name(func) in _CHOICES
