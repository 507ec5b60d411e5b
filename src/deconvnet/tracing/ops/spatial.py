"""How a torch call carries the places of a map: not at all, by a sliding window, or in a way that is not followed.

The last two dimensions of a tensor are its places, rows and columns. Everything here is read from the call itself, as in
`calls.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.cpu_kernels import convolve
from deconvnet.tracing.ops.arguments import Args, Kwargs
from deconvnet.tracing.receptive_field import Pair


class Window(NamedTuple):
    """A sliding window: (rows, columns) of its kernel, stride, padding and dilation."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True)
class SlidingWindowCall:
    """A call that moves a window over its first argument."""

    window: Window
    fill: float = 0.0
    """What the call takes for the places beyond the border."""
    unpadded: Callable[[Tensor], Tensor] | None = None
    """The same call on an input that needs no padding any more; None if no such call exists."""


def _pair(value: Any) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def _conv2d(
    input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> SlidingWindowCall:
    kernel, spread = (weight.shape[2], weight.shape[3]), _pair(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":  # the odd pixel goes to the far side, as torch does
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, spread, strict=True))
    return SlidingWindowCall(
        Window(kernel, _pair(stride), _pair(padding), spread),
        unpadded=lambda x: convolve(x, weight, bias, stride, 0, dilation, groups),
    )


def _pool(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    stride = kernel_size if stride in (None, [], ()) else stride
    return Window(_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation))


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> SlidingWindowCall:
    window = _pool(kernel_size, stride, padding, dilation)

    def unpadded(x: Tensor) -> Tensor:
        pooled: Tensor = F.max_pool2d(x, window.kernel, window.stride, 0, window.dilation)
        return pooled

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
    window = _pool(kernel_size, stride, padding)
    # Otherwise windows at the border are divided by another number than those inside.
    alike = not ceil_mode and (count_include_pad or window.padding == (0, 0)) and divisor_override is None
    return SlidingWindowCall(window, 0.0, (lambda x: F.avg_pool2d(x, window.kernel, window.stride)) if alike else None)


def _adaptive_pool(input: Tensor, output_size: Any, *_: Any, **__: Any) -> SlidingWindowCall | None:
    sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    found = tuple(input.shape[-2:])
    wanted = tuple(have if want is None else want for want, have in zip(sizes, found, strict=True))
    if any(have % want for have, want in zip(found, wanted, strict=True)):
        return None  # windows of unlike sizes
    kernel = (found[0] // wanted[0], found[1] // wanted[1])
    return SlidingWindowCall(Window(kernel, kernel, (0, 0), (1, 1)))


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> SlidingWindowCall | None:
    if mode != "constant" or len(pad) not in (4, 6):
        return None
    left, _, top, _, *others = pad  # what is padded at the far side moves no place
    return SlidingWindowCall(
        Window((1, 1), (1, 1), (top, left), (1, 1)),
        float(value or 0),
        lambda x: F.pad(x, (0, 0, 0, 0, *others), value=value),
    )


_SLIDING: dict[Callable[..., Any], Callable[..., SlidingWindowCall | None]] = {
    torch.conv2d: _conv2d,
    F.max_pool2d: _max_pool,
    F.max_pool2d_with_indices: _max_pool_with_indices,
    torch.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d: _adaptive_pool,
    F.adaptive_max_pool2d_with_indices: _adaptive_pool,
    F.pad: _pad,
}


def match_sliding_window(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> SlidingWindowCall | None:
    """The sliding window that this call moves over its first argument, or None."""
    read = _SLIDING.get(func)
    return read(*args, **kwargs) if read else None


#: Functions, by name, whose output at a place depends on their inputs at that place alone (whatever happens across
#: channels), that have a finite derivative everywhere, and whose arguments do not speak of the size of the map.
_PLACEWISE = frozenset(
    """
    relu relu_ relu6 hardtanh hardtanh_ clamp clamp_ clip clip_ clamp_min clamp_min_ _threshold leaky_relu
    prelu elu selu celu gelu silu mish sigmoid sigmoid_ tanh tanh_ hardswish hardsigmoid softplus
    add add_ __add__ __iadd__ __radd__ sub sub_ __sub__ __isub__ __rsub__ rsub mul mul_ __mul__ __imul__ __rmul__ neg abs
    square maximum minimum batch_norm local_response_norm dropout dropout_ dropout1d dropout2d feature_dropout
    alpha_dropout channel_shuffle contiguous clone detach detach_ to float double half bfloat16 type
    """.split()
)
#: The same, but with derivatives or results that may be infinite.
_UNSTEADY = frozenset("div div_ __truediv__ __itruediv__ __rdiv__ true_divide pow __pow__ sqrt rsqrt exp log".split())
_ALONG_CHANNELS = {"cat": 1, "concat": 1, "concatenate": 1, "chunk": 2, "split": 2, "tensor_split": 2}
_RESHAPING = frozenset(["view", "reshape", "unflatten", "flatten"])
_SWAPPING = frozenset(["transpose", "swapaxes", "permute", "movedim"])


def _argument(args: Args, kwargs: Kwargs, position: int, *names: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else next((kwargs[name] for name in names if name in kwargs), default)


def is_pointwise(func: Callable[..., Any], args: Args, kwargs: Kwargs, shape: Pair | torch.Size, output: Tensor) -> bool:
    """Does the output at a place depend on the inputs at that place alone? `shape` is the first input's."""
    name, dims = getattr(func, "__name__", ""), len(shape)
    if dims < 3 or output.dim() < 3 or tuple(output.shape[-2:]) != tuple(shape[-2:]):
        return False
    if name in _ALONG_CHANNELS:
        return dims == 4 and _argument(args, kwargs, _ALONG_CHANNELS[name], "dim", "axis", default=0) in (1, -3)
    if name == "__getitem__":
        return _picks_channels(args[1], dims)
    if name == "unsqueeze":
        dim = _argument(args, kwargs, 1, "dim")
        return (dim if dim >= 0 else dim + dims + 1) <= dims - 2
    if name in _SWAPPING:
        return _keeps_last(name, args, kwargs, dims)
    if name in ("batch_norm", "local_response_norm") and dims != 4:
        return False  # they take the second dimension for channels
    # A reshape runs through a tensor in row-major order, so last dimensions of the same size are the same.
    return name in _RESHAPING or name in _PLACEWISE or name in _UNSTEADY


def is_reshaping(func: Callable[..., Any]) -> bool:
    """Is it `view`, `reshape` or the like?"""
    return getattr(func, "__name__", "") in _RESHAPING


def split_dim(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> int | None:
    """The dimension along which the call splits its first argument into parts, each as many-dimensional; or None."""
    if getattr(func, "__name__", "") not in ("chunk", "split", "tensor_split"):
        return None
    return int(_argument(args, kwargs, 2, "dim", default=0))


def supports_cropping(func: Callable[..., Any], output: Tensor, constants: list[Tensor]) -> bool:
    """Does the call, if it `is_pointwise`, give on a cut-out of its inputs the same cut-out of its output?

    `constants` are the tensors among its arguments that are no signals: those with places of their own cannot be cut.
    """
    name = getattr(func, "__name__", "")
    if name in _RESHAPING:
        return output.shape[0] == 1  # of the one image of a trace
    known = name in _PLACEWISE or name in _ALONG_CHANNELS or name in _SWAPPING or name in ("__getitem__", "unsqueeze")
    by_channel = name in ("batch_norm", "prelu")  # their vectors are of channels, any other's of columns
    most = 1 if by_channel else 0
    return known and not any(tensor.dim() > most and max(tensor.shape[-2:]) > 1 for tensor in constants)


def _picks_channels(index: Any, dims: int) -> bool:
    """Is it x[:, i], x[:, a:b], x[:, None] …, with every image and every place kept?"""
    items = index if isinstance(index, tuple) else (index,)
    if not all(item is None or isinstance(item, int | slice) for item in items):
        return False
    real = [item for item in items if item is not None]
    every = slice(None)
    return bool(real) and items[0] == every and all(item == every for item in real[dims - 2 :]) and items[-1] is not None


def _keeps_last(name: str, args: Args, kwargs: Kwargs, dims: int) -> bool:
    if name == "permute":
        order = args[1:] if len(args) > 2 else _argument(args, kwargs, 1, "dims")
        return tuple(dim % dims for dim in order)[-2:] == (dims - 2, dims - 1)
    moved = (
        _argument(args, kwargs, 1, "dim0", "axis0", "source"),
        _argument(args, kwargs, 2, "dim1", "axis1", "destination"),
    )
    flat = [dim for one in moved for dim in (one if isinstance(one, list | tuple) else [one])]
    return all(dim % dims < dims - 2 for dim in flat)


#: Functions, by name, that carry a signal down as a linear map does, or to the place that won.
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
_CONSTANT = frozenset("zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty".split())


def is_linear(func: Callable[..., Any], signals: int) -> bool:
    """Is the call linear in its inputs, `signals` of which depend on the network's input (or a choice among them)?"""
    name = getattr(func, "__name__", "")
    return name in _LINEAR and not (name in _PRODUCTS and signals > 1)


#: What tells of a tensor's shape and not of its values.
_ABOUT_SHAPE = frozenset("size dim ndimension numel nelement stride storage_offset __len__ is_contiguous".split())
_ABOUT_KIND = frozenset("is_floating_point is_complex is_signed element_size get_device has_names register_hook ".split())
_OF_SHAPE = frozenset([torch.Tensor.shape.__get__, torch.Tensor.ndim.__get__])  # type: ignore[attr-defined]
_OF_VALUES = frozenset(getattr(torch.Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "data", "real", "imag"))


def is_about_shape(func: Callable[..., Any]) -> bool:
    """Does the call tell of a tensor's shape and not of its values?"""
    name = getattr(func, "__name__", "")
    return func in _OF_SHAPE or name in _ABOUT_SHAPE or name in _CONSTANT


def is_metadata_access(func: Callable[..., Any]) -> bool:
    """Does the call read an attribute that has to do with neither shape nor values, such as `x.requires_grad`?

    Hooks of others do that at any time, so it is no step.
    """
    name = getattr(func, "__name__", "")
    return name in _ABOUT_KIND or (name == "__get__" and func not in _OF_SHAPE and func not in _OF_VALUES)


def is_assignment(func: Callable[..., Any]) -> bool:
    """Is it `x[...] = y`, which changes x and returns nothing?"""
    return func is torch.Tensor.__setitem__


def is_constant(func: Callable[..., Any]) -> bool:
    """Does the output not depend on the values of the inputs?"""
    return getattr(func, "__name__", "") in _CONSTANT


_MAX_POOLINGS: dict[Callable[..., Any], Callable[..., tuple[Tensor, Tensor]]] = {
    F.max_pool2d: F.max_pool2d_with_indices,
    F.max_pool2d_with_indices: F.max_pool2d_with_indices,
    torch.max_pool2d: F.max_pool2d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool2d_with_indices: F.adaptive_max_pool2d_with_indices,
}


def match_max_pooling(func: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The function that takes a max pooling's arguments and gives its switches too; None for any other function."""
    return _MAX_POOLINGS.get(func)
