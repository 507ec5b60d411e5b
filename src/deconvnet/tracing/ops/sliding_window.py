"""Which torch calls slide a window over the positions of a feature map, and which window: convolution, pooling, padding,
slices.

A tensor's last two dimensions are its positions, rows and columns. The table maps each function to a parser with the same
signature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.ops.nested_tensors import Args, Call, Kwargs
from deconvnet.tracing.receptive_field import Pair


class SlidingWindow(NamedTuple):
    """(rows, columns) of a window's kernel, stride, padding and dilation."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True)
class SlidingWindowCall:
    """A call that slides a window over its first argument."""

    window: SlidingWindow
    fill: float = 0.0
    """The value that the call assumes at positions beyond the border."""
    unpadded: Callable[[Tensor], Call] | None = None
    """The same call for an input that has been padded already; None if there is no such call."""


def as_pair(value: Any) -> Pair:
    """(rows, columns) of what torch takes as one number for both, or as a sequence of one or two."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def _conv2d(
    input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> SlidingWindowCall:
    kernel, dilations = (weight.shape[2], weight.shape[3]), as_pair(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":  # if the padding is odd, torch adds the extra pixel at the bottom and at the right
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True))
    return SlidingWindowCall(
        SlidingWindow(kernel, as_pair(stride), as_pair(padding), dilations),
        unpadded=lambda x: (torch.conv2d, (x, weight, bias, stride, 0, dilation, groups), {}),
    )


def pooling_window(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> SlidingWindow:
    """The window of a pooling with these arguments of torch."""
    stride = kernel_size if stride in (None, [], ()) else stride
    return SlidingWindow(as_pair(kernel_size), as_pair(stride), as_pair(padding), as_pair(dilation))


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> SlidingWindowCall:
    window = pooling_window(kernel_size, stride, padding, dilation)

    def unpadded(x: Tensor) -> Call:
        return F.max_pool2d, (x, window.kernel, window.stride, 0, window.dilation), {}

    return SlidingWindowCall(window, -torch.inf, None if return_indices else unpadded)


def _max_pool_with_indices(*args: Any, **kwargs: Any) -> SlidingWindowCall:
    return SlidingWindowCall(_max_pool(*args, **kwargs).window)


def _average_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> SlidingWindowCall:
    window = pooling_window(kernel_size, stride, padding)
    # Without these conditions, sums at the border are divided by a different number than those inside.
    same_divisor = not ceil_mode and (count_include_pad or window.padding == (0, 0)) and divisor_override is None
    return SlidingWindowCall(
        window, 0.0, (lambda x: (F.avg_pool2d, (x, window.kernel, window.stride), {})) if same_divisor else None
    )


def _adaptive_pool(input: Tensor, output_size: Any, *_: Any, **__: Any) -> SlidingWindowCall | None:
    requested = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    before = tuple(input.shape[-2:])
    after = tuple(size if wish is None else wish for wish, size in zip(requested, before, strict=True))
    if any(size % pooled for size, pooled in zip(before, after, strict=True)):
        return None  # the windows differ in size
    kernel = (before[0] // after[0], before[1] // after[1])
    return SlidingWindowCall(SlidingWindow(kernel, kernel, (0, 0), (1, 1)))


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> SlidingWindowCall | None:
    if mode != "constant" or len(pad) not in (4, 6):
        return None
    left, _, top, _, *channels = pad  # padding at the right and at the bottom shifts no position
    return SlidingWindowCall(
        SlidingWindow((1, 1), (1, 1), (top, left), (1, 1)),
        float(value or 0),
        lambda x: (F.pad, (x, (0, 0, 0, 0, *channels)), {"value": value}),
    )


def _pick_positions(input: Tensor, index: Any) -> SlidingWindowCall | None:
    """x[:, :, a:b, c:d], with a stride or without."""
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(item is ... or isinstance(item, slice) for item in items):
        return None
    ellipsis = items.index(...) if ... in items else len(items)
    items[ellipsis : ellipsis + 1] = [slice(None)] * (input.dim() - len(items) + (... in items))
    *others, rows, columns = items
    if any(item != slice(None) for item in others) or rows == columns == slice(None):
        return None
    (top, _, down), (left, _, right) = (
        item.indices(length) for item, length in zip((rows, columns), input.shape[-2:], strict=True)
    )
    steps = (..., slice(None, None, down), slice(None, None, right))
    return SlidingWindowCall(
        SlidingWindow((1, 1), (down, right), (-top, -left), (1, 1)), 0.0, lambda x: (Tensor.__getitem__, (x, steps), {})
    )


def _narrow(input: Tensor, dim: int, start: Any, length: int) -> SlidingWindowCall | None:
    dim %= input.dim()
    if dim < input.dim() - 2 or not isinstance(start, int):
        return None
    start %= input.shape[dim]
    index = slice(start, start + length)
    return _pick_positions(input, (..., index, slice(None)) if dim == input.dim() - 2 else (..., index))


_SLIDING_WINDOW_PARSERS: dict[Callable[..., Any], Callable[..., SlidingWindowCall | None]] = {
    torch.conv2d: _conv2d,
    F.max_pool2d: _max_pool,
    F.max_pool2d_with_indices: _max_pool_with_indices,
    torch.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d_with_indices: _adaptive_pool,
    F.pad: _pad,
    Tensor.__getitem__: _pick_positions,
    torch.narrow: _narrow,
    Tensor.narrow: _narrow,
}


_CHANNELS_FIRST = frozenset(
    [
        *(torch.conv2d, F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d, F.avg_pool2d),
        *(F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices),
    ]
)


def expects_channels_first(func: Callable[..., Any]) -> bool:
    """Is it a convolution or pooling, which takes and gives (N, C, rows, columns)?"""
    return func in _CHANNELS_FIRST


def match_sliding_window(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> SlidingWindowCall | None:
    """The call as one that slides a window over its first argument; None if it does not."""
    parse = _SLIDING_WINDOW_PARSERS.get(func)
    return parse(*args, **kwargs) if parse else None


_MAX_POOLINGS_WITH_SWITCHES: dict[Callable[..., Any], Callable[..., tuple[Tensor, Tensor]]] = {
    F.max_pool2d: F.max_pool2d_with_indices,
    F.max_pool2d_with_indices: F.max_pool2d_with_indices,
    torch.max_pool2d: F.max_pool2d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool2d_with_indices: F.adaptive_max_pool2d_with_indices,
}


def match_max_pooling(func: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """For a max pooling the function that takes the same arguments and returns (output, switches); None for others."""
    return _MAX_POOLINGS_WITH_SWITCHES.get(func)
