"""How far each element of a tensor reaches: the box of input pixels that it depends on, whatever became of its positions.

A reach is a tensor (4, *shape) of −top, −left, bottom and right, as float32, −∞ for an element that depends on no pixel. So
bounding boxes unite by their maxima, and a call that only moves elements moves their boxes by itself. `shape` is that of the
tensor, with 1 for a dimension along which all elements reach as far. All functions are exact: what they return bounds the
union of the sets of pixels that their arguments bound.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from deconvnet.tracing.receptive_field import Axis, FieldStatus, ReceptiveField

_NOWHERE = -torch.inf
#: More than any side of an image; both are whole numbers that float32 holds exactly.
_FAR = 2.0**20


def reach_of(field: ReceptiveField, shape: Sequence[int]) -> Tensor:
    """The reach of maps (…, rows, columns) with this field, clipped to the input; of any tensor if all its elements have one
    field.
    """
    if field.rows.jump == field.columns.jump == 0 and len(shape) < 2:
        return reach_of(field, (1, 1)).view(4, *(1,) * len(shape))
    ends = []
    for axis, length, count in ((field.rows, field.height, shape[-2]), (field.columns, field.width, shape[-1])):
        starts = axis.start + axis.jump * torch.arange(count, dtype=torch.float32)
        ends.append((starts.clamp(min=0), (starts + axis.size).clamp(max=length)))
    (top, bottom), (left, right) = ends
    rows, columns = len(top), len(left)
    sides = (
        [side[:, None].expand(rows, columns) for side in (-top, bottom)],
        [side.expand(rows, columns) for side in (-left, right)],
    )
    reach = torch.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]])
    is_empty = (-reach[0] >= reach[2]) | (-reach[1] >= reach[3])
    return reach.masked_fill(is_empty, _NOWHERE).view(4, *(1,) * (len(shape) - 2), rows, columns)


def union(reaches: Sequence[Tensor]) -> Tensor:
    """The reach of a pointwise function of tensors, which broadcast as the tensors do."""
    dims = max(reach.dim() for reach in reaches)
    aligned = [reach.view(4, *(1,) * (dims - reach.dim()), *reach.shape[1:]) for reach in reaches]
    return reduce(torch.maximum, aligned)


def hull(reach: Tensor, dims: Sequence[int]) -> Tensor:
    """The reach of what mixes all elements along dimensions of the tensor, which become 1."""
    positive = sorted({dim % (reach.dim() - 1) + 1 for dim in dims})
    return reach.amax(dim=positive, keepdim=True) if positive else reach


def gather(reach: Tensor, dim: int, reads: Tensor) -> Tensor:
    """The reach behind windows along a dimension: `reads` (outputs, inputs) is True where an output reads an input."""
    dim = dim % (reach.dim() - 1) + 1
    reach = reach.movedim(dim, -1).expand(*reach.movedim(dim, -1).shape[:-1], reads.shape[1])
    most = max(int(reads.sum(dim=1).max()), 1)
    order = reads.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    is_read = reads.gather(1, order)
    gathered = reach[..., order].masked_fill(~is_read, _NOWHERE)
    return gathered.amax(dim=-1).movedim(-1, dim)


def move(function: Callable[[list[Tensor]], Sequence[Tensor]], reaches: Sequence[Tensor]) -> list[Tensor]:
    """The reach of each tensor that a function returns which only moves elements, or inserts zeros.

    `function` takes the tensors, all in full shape, and is called for one side of the boxes at a time.
    """
    sides = [function([reach[side] - _FAR for reach in reaches]) for side in range(4)]
    moved = (torch.stack(outputs) for outputs in zip(*sides, strict=True))
    return [shrink(torch.where(reach == 0, _NOWHERE, reach + _FAR)) for reach in moved]


def shrink(reach: Tensor) -> Tensor:
    """The same reach with 1 for each dimension along which it does not vary."""
    for dim in range(1, reach.dim()):
        first = reach.narrow(dim, 0, 1)
        if reach.shape[dim] > 1 and bool((reach == first).all()):
            reach = first
    return reach


def fit_field(reach: Tensor, shape: Sequence[int], height: int, width: int) -> ReceptiveField:
    """The smallest receptive field found that contains the reach of maps of this shape (N, C, rows, columns).

    It is exact if it is no larger at any position of which the box lies inside the `height` × `width` input (at any position
    at all, if there is none).
    """
    maps = reach.amax(dim=tuple(range(1, reach.dim() - 2))).expand(4, *shape[-2:])
    rows = _fit_axis(-maps[0].amax(dim=1), maps[2].amax(dim=1), height)
    columns = _fit_axis(-maps[1].amax(dim=0), maps[3].amax(dim=0), width)
    field = ReceptiveField(rows, columns, height, width)
    fitted = reach_of(field, shape).view_as(maps)
    differs = (fitted != maps).any(dim=0) & maps.isfinite().all(dim=0)
    is_inside = _is_inside(rows, shape[-2], height)[:, None] & _is_inside(columns, shape[-1], width)
    is_exact = not (differs & is_inside if is_inside.any() else differs).any()
    return field if is_exact else replace(field, status=FieldStatus.UPPER_BOUND)


def _fit_axis(starts: Tensor, ends: Tensor, length: int) -> Axis:
    """The axis that contains [starts[i], ends[i]) at each position i; infinite where there is nothing."""
    positions = torch.arange(len(starts), dtype=torch.float32)[starts.isfinite()]
    starts, ends = starts[starts.isfinite()], ends[ends.isfinite()]
    if not len(starts):
        return Axis(0, 0, 0)
    jumps = {0}
    for is_clipped, edges in ((starts == 0, starts), (ends == length, ends)):
        places, edges = positions[~is_clipped], edges[~is_clipped]
        if len(edges) > 1:
            slope = float((edges[-1] - edges[0]) / (places[-1] - places[0]))
            jumps |= {math.floor(slope), math.ceil(slope)}
    found = []
    for jump in jumps:
        start, end = int((starts - jump * positions).min()), int((ends - jump * positions).max())
        covers = (start + jump * positions).clamp(min=0), (end + jump * positions).clamp(max=length)
        is_larger = not (torch.equal(covers[0], starts) and torch.equal(covers[1], ends))
        found.append((is_larger, is_larger and jump < 0, min(end - start, length), Axis(jump, end - start, start)))
    return min(found, key=lambda each: (*each[:3], abs(each[3].jump)))[3]


def _is_inside(axis: Axis, count: int, length: int) -> Tensor:
    """Whether the field of each of `count` positions lies inside the input."""
    starts = axis.start + axis.jump * torch.arange(count)
    return (starts >= 0) & (starts + axis.size <= length)
