"""Which positions of its input each output of a call reads, axis by axis: windows of any kind, resampling, padding.

The table maps each function to a parser with the same signature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.tracing.ops.nested_tensors import Args, Kwargs
from deconvnet.tracing.receptive_field import Pair


@dataclass(frozen=True)
class Reads:
    """What a call reads of its first argument."""

    axes: tuple[Callable[[int, int], Tensor], ...]
    """For each of the last dimensions, a function of the lengths of input and output that returns (outputs, inputs), True
    where an output reads an input.
    """
    groups: int | None = None
    """Of a convolution: among how many groups it divides the channels, each of which it mixes. None: they stay apart."""
    padding: Pair = (0, 0)
    """By how many rows and columns it shifts positions."""
    is_adaptive: bool = False
    """Does it pool to a given size?"""


def match_reads(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Reads | None:
    """What the call reads; None if it is not in the table."""
    parse = _PARSERS.get(func)
    return parse(*args, **kwargs) if parse else None


def _window(kernel: int, stride: int, padding: int, dilation: int = 1) -> Callable[[int, int], Tensor]:
    def reads(inputs: int, outputs: int) -> Tensor:
        taps = torch.arange(inputs) - (torch.arange(outputs)[:, None] * stride - padding)
        return (taps >= 0) & (taps < kernel * dilation) & (taps % dilation == 0)

    return reads


def _per_axis(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _windows(
    kernel: Sequence[int], stride: Any, padding: Any, dilation: Any = 1
) -> tuple[Callable[[int, int], Tensor], ...]:
    per_axis = (_per_axis(value, len(kernel)) for value in (stride, padding, dilation))
    return tuple(_window(*axis) for axis in zip(kernel, *per_axis, strict=True))


def _conv(
    input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Reads:
    kernel = weight.shape[2:]
    if padding == "same":
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, _per_axis(dilation, len(kernel)), strict=True)]
    return Reads(_windows(kernel, stride, 0 if padding == "valid" else padding, dilation), groups)


def _conv_transpose(
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Reads:
    def transposed(window: Callable[[int, int], Tensor]) -> Callable[[int, int], Tensor]:
        return lambda inputs, outputs: window(outputs, inputs).T

    return Reads(tuple(map(transposed, _windows(weight.shape[2:], stride, padding, dilation))), groups)


def _max_pool(dims: int) -> Callable[..., Reads]:
    def parse(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any, **__: Any
    ) -> Reads:
        kernel = _per_axis(kernel_size, dims)
        return Reads(_windows(kernel, kernel if stride in (None, [], ()) else stride, padding, dilation))

    return parse


def _avg_pool(dims: int) -> Callable[..., Reads]:
    def parse(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any) -> Reads:
        return _max_pool(dims)(input, kernel_size, stride, padding)

    return parse


def _lp_pool(dims: int) -> Callable[..., Reads]:
    def parse(input: Tensor, norm_type: Any, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Reads:
        return _max_pool(dims)(input, kernel_size, stride)

    return parse


def _adaptive_pool(dims: int) -> Callable[..., Reads]:
    def reads(inputs: int, outputs: int) -> Tensor:
        start = torch.arange(outputs) * inputs // outputs
        end = ((torch.arange(outputs) + 1) * inputs + outputs - 1) // outputs
        return (torch.arange(inputs) >= start[:, None]) & (torch.arange(inputs) < end[:, None])

    return lambda *_, **__: Reads((reads,) * dims, is_adaptive=True)


def _interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Reads | None:
    dims = input.dim() - 2
    if dims not in (1, 2) or isinstance(size, Tensor) or isinstance(scale_factor, Tensor):
        return None
    mode = {"linear": "bilinear"}.get(mode, mode)  # one axis is tried at a time, as rows of a single column
    factors = list(scale_factor) if isinstance(scale_factor, list | tuple) else [scale_factor] * dims

    def reads(factor: float | None) -> Callable[[int, int], Tensor]:
        def read(inputs: int, outputs: int) -> Tensor:
            options: dict[str, Any] = {"size": (outputs, 2)} if factor is None else {"scale_factor": (float(factor), 1.0)}
            # A basis of the inputs; of two columns, as with one torch's kernels for antialiasing are others.
            each = torch.eye(inputs)[:, None, :, None].expand(-1, 1, -1, 2)
            answers = F.interpolate(
                *(each,),
                **options,
                mode=mode,
                align_corners=align_corners,
                recompute_scale_factor=recompute_scale_factor,
                antialias=antialias,
            )
            return answers[:, 0, :, 0].T != 0

        return read

    return Reads(tuple(map(reads, factors)))


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Reads:
    def reads(before: int, after: int) -> Callable[[int, int], Tensor]:
        def read(inputs: int, outputs: int) -> Tensor:
            if mode == "constant":
                return _window(1, 1, before)(inputs, outputs)
            places = F.pad(torch.arange(inputs, dtype=torch.float32)[None], (before, after), mode=mode)
            return torch.arange(inputs) == places.T

        return read

    pairs = list(zip(pad[::2], pad[1::2], strict=True))  # the last dimension first
    shifts = (pairs[1][0] if len(pairs) > 1 else 0, pairs[0][0])
    return Reads(tuple(reads(*pair) for pair in reversed(pairs)), padding=shifts)


_PARSERS: dict[Callable[..., Any], Callable[..., Reads | None]] = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _conv),
    **dict.fromkeys((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), _conv_transpose),
    F.interpolate: _interpolate,
    F.upsample: _interpolate,  # has the first of its arguments
    F.pad: _pad,
}
for _dims in (1, 2, 3):
    _PARSERS |= {
        getattr(F, f"avg_pool{_dims}d"): _avg_pool(_dims),
        getattr(F, f"lp_pool{_dims}d"): _lp_pool(_dims),
        getattr(F, f"adaptive_avg_pool{_dims}d"): _adaptive_pool(_dims),
        **dict.fromkeys(
            (
                getattr(F, f"max_pool{_dims}d"),
                getattr(F, f"max_pool{_dims}d_with_indices"),
                getattr(torch, f"max_pool{_dims}d"),
            ),
            _max_pool(_dims),
        ),
        **dict.fromkeys(
            (getattr(F, f"adaptive_max_pool{_dims}d"), getattr(F, f"adaptive_max_pool{_dims}d_with_indices")),
            _adaptive_pool(_dims),
        ),
    }
