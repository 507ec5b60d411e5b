"""Which torch calls are pointwise: their output at a position depends on their inputs at that position alone.

A tensor's last two dimensions are its positions, rows and columns; what happens across channels does not matter here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, argument, iter_tensors, map_tensors
from deconvnet.tracing.ops.spellings import function_name
from deconvnet.tracing.receptive_field import Pair

#: Pointwise functions, by name, that have a finite derivative everywhere and whose arguments do not name the map's size.
_POINTWISE = frozenset(
    """
    relu relu_ relu6 hardtanh hardtanh_ clamp clamp_ clip clip_ clamp_min clamp_min_ _threshold leaky_relu
    prelu elu selu celu gelu silu mish sigmoid sigmoid_ tanh tanh_ hardswish hardsigmoid softplus
    add add_ __add__ __iadd__ __radd__ sub sub_ __sub__ __isub__ __rsub__ rsub mul mul_ __mul__ __imul__ __rmul__ neg abs
    square maximum minimum batch_norm local_response_norm normalise_by dropout dropout_ dropout1d dropout2d feature_dropout
    alpha_dropout channel_shuffle contiguous clone detach detach_ requires_grad_ to float double half bfloat16 type
    """.split()
)
#: Pointwise functions whose derivative or result may be infinite.
_POINTWISE_UNBOUNDED = frozenset(
    "div div_ __truediv__ __itruediv__ __rdiv__ true_divide pow __pow__ sqrt rsqrt exp log".split()
)
#: Those of the above that do something along channels.
_ALONG_CHANNELS = frozenset(["local_response_norm", "normalise_by", "channel_shuffle"])
#: Functions of single elements that have no derivative, or are seldom met.
_OTHER_ELEMENTWISE = frozenset(
    """
    where masked_fill masked_fill_ addcmul addcdiv lerp sin cos sign floor ceil round reciprocal erf log1p expm1 logsigmoid
    softsign tanhshrink hardshrink softshrink rrelu relu6 threshold sinh cosh atan eq ne lt le gt ge __eq__ __ne__ __lt__
    __le__ __gt__ __ge__ logical_and logical_or logical_not __and__ __or__ __invert__ bool int long fmax fmin nan_to_num
    clamp_max clamp_max_ rsub bernoulli isnan isinf positive __pos__ __neg__ __abs__ negative floor_divide remainder
    fmod atan2
    """.split()
)
#: Functions that join or split tensors along a dimension, with the index of the argument `dim`.
_JOINING_OR_SPLITTING = {"cat": 1, "concat": 1, "concatenate": 1, "chunk": 2, "split": 2, "tensor_split": 2}
_SPLITTING = frozenset(["chunk", "split", "tensor_split"])
_RESHAPING = frozenset(["view", "reshape", "unflatten", "flatten"])
_PERMUTING = frozenset(["transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis"])


def is_pointwise(func: Callable[..., Any], args: Args, kwargs: Kwargs, shape: Pair | torch.Size, output: Tensor) -> bool:
    """Does the output at a position depend on the inputs at that position alone? `shape` is the shape of one input."""
    name, dims = function_name(func), len(shape)
    if dims < 3 or output.dim() < 3 or tuple(output.shape[-2:]) != tuple(shape[-2:]):
        return False
    if name in _JOINING_OR_SPLITTING:
        return dims == 4 and argument(args, kwargs, _JOINING_OR_SPLITTING[name], "dim", "axis", default=0) in (1, -3)
    if name == "__getitem__":
        return _indexes_channels_only(args[1], dims)
    if name in _PERMUTING:
        return _keeps_spatial_dims(name, args, kwargs, dims)
    if name in ("batch_norm", "local_response_norm", "normalise_by") and dims != 4:
        return False  # they treat the second dimension as channels
    # A reshape or `unsqueeze` keeps the row-major order, so if the last two dimensions keep their sizes, they are the same.
    return name in _RESHAPING or name == "unsqueeze" or name in _POINTWISE or name in _POINTWISE_UNBOUNDED


def is_elementwise(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    """Does each element of the output depend on those alone that broadcasting puts in its place?"""
    name = function_name(func)
    if name == "__setitem__":  # x[mask] = number
        mask = args[1]
        return (
            isinstance(mask, Tensor)
            and mask.dtype == torch.bool
            and mask.dim() == args[0].dim()
            and not isinstance(args[2], Tensor)
        )
    if name in ("max", "min"):
        return any(isinstance(value, Tensor) for value in (*args[1:], *kwargs.values()))
    return name in (_POINTWISE | _POINTWISE_UNBOUNDED | _OTHER_ELEMENTWISE) - _ALONG_CHANNELS


def joins_channels(func: Callable[..., Any]) -> bool:
    """Does the call, if it `is_pointwise`, join tensors along their channels?"""
    return function_name(func) in _JOINING_OR_SPLITTING and not picks_channels(func)


def picks_channels(func: Callable[..., Any]) -> bool:
    """Does the call, if it `is_pointwise`, return a part of its first argument's channels?"""
    name = function_name(func)
    return name in _SPLITTING or name == "__getitem__"


def is_reshaping(func: Callable[..., Any]) -> bool:
    """Is it `view`, `reshape` or the like?"""
    return function_name(func) in _RESHAPING


def split_dim(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> int | None:
    """The dimension along which the call splits its first argument, or None. The results keep all dimensions."""
    if function_name(func) not in _SPLITTING:
        return None
    return int(argument(args, kwargs, 2, "dim", default=0))


def permuted_dims(func: Callable[..., Any], args: Args, kwargs: Kwargs, dims: tuple[int, ...]) -> tuple[int, ...]:
    """Where dimensions of the call's first tensor are in its output; the same, if it does not permute dimensions."""
    if function_name(func) not in _PERMUTING:
        return dims
    x = next(iter_tensors((args, kwargs)))
    sizes = torch.empty(*range(2, 2 + x.dim()), device="meta")
    args, kwargs = map_tensors((args, kwargs), lambda tensor: sizes if tensor is x else tensor)
    shape = func(*args, **kwargs).shape
    return tuple(shape.index(2 + dim) for dim in dims)


def supports_cropping(func: Callable[..., Any], output: Tensor, constants: list[Tensor]) -> bool:
    """Does the call, if it `is_pointwise`, return for a crop of its inputs the same crop of its output?

    `constants` are the tensor arguments that are no signals; the call cannot be cropped if they have positions of their own.
    """
    name = function_name(func)
    if name in _RESHAPING:
        return output.shape[0] == 1  # a trace has one image
    of_channels = name in _JOINING_OR_SPLITTING or name in _PERMUTING or name in ("__getitem__", "unsqueeze")
    if not of_channels and name not in _POINTWISE:
        return False
    max_dims = 1 if name in ("batch_norm", "prelu") else 0  # their vectors run over channels, those of others over columns
    return not any(tensor.dim() > max_dims and max(tensor.shape[-2:]) > 1 for tensor in constants)


def _indexes_channels_only(index: Any, dims: int) -> bool:
    """Is the index x[:, i], x[:, a:b], x[:, None] …, which keeps every image and every position?"""
    items = index if isinstance(index, tuple) else (index,)
    if not all(item is None or isinstance(item, int | slice) for item in items):
        return False
    per_dim = [item for item in items if item is not None]
    everything = slice(None)
    spatial = per_dim[dims - 2 :]
    return bool(per_dim) and items[0] == everything and all(item == everything for item in spatial) and items[-1] is not None


def _keeps_spatial_dims(name: str, args: Args, kwargs: Kwargs, dims: int) -> bool:
    """Does a permutation of the dimensions leave the last two where they are?"""
    if name == "permute":
        order = args[1:] if len(args) > 2 else argument(args, kwargs, 1, "dims")
        return tuple(dim % dims for dim in order)[-2:] == (dims - 2, dims - 1)
    source = argument(args, kwargs, 1, "dim0", "axis0", "source")
    destination = argument(args, kwargs, 2, "dim1", "axis1", "destination")
    moved = [dim for item in (source, destination) for dim in (item if isinstance(item, list | tuple) else [item])]
    return all(dim % dims < dims - 2 for dim in moved)
