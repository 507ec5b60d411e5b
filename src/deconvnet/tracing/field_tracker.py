"""Follow receptive fields through a forward pass, call by call.

Behind windows, sums and concatenations a field is regular: one `ReceptiveField` for all positions. Where a call moves
positions in any other way, such as reflection padding or a permutation, the box of each element is followed by itself
(`reach.py`), until the boxes are those of a regular field again: behind a convolution that reads the mirrored positions
anyway, say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from deconvnet.tracing.ops.metadata import is_assignment
from deconvnet.tracing.ops.mixing import joins, mixed_dims, moves_elements, product_labels, reads_where_data_say
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs, iter_tensors, map_tensors
from deconvnet.tracing.ops.pointwise import is_elementwise, is_pointwise, joins_channels, picks_channels
from deconvnet.tracing.ops.reads import match_reads
from deconvnet.tracing.ops.sliding_window import match_sliding_window
from deconvnet.tracing.ops.spellings import function_name
from deconvnet.tracing.reach import fit_field, gather, hull, move, reach_of, shrink, union
from deconvnet.tracing.receptive_field import Axis, FieldStatus, ReceptiveField


@dataclass(frozen=True)
class SignalField:
    """What the elements of a signal depend on."""

    regular: ReceptiveField
    """The field, if there is no `reach`; otherwise the one that it would be if positions had only been shifted."""
    reach: Tensor | None = None
    """Each element's box, where positions are not regular."""
    channels_differ: bool = False
    """May a channel have a smaller field than all of them together?"""

    @property
    def is_whole(self) -> bool:
        """Do all elements depend on the whole image, or are taken to?"""
        return self.reach is None and self.regular.is_whole


@dataclass(frozen=True)
class TracedCall:
    """A torch call that has been run. `shapes` and `signals` are those of its tensor arguments before the call."""

    func: Callable[..., Any]
    args: Args
    kwargs: Kwargs
    shapes: Sequence[torch.Size]
    signals: Sequence[int | None]
    fields: Sequence[SignalField | None]
    """Of each tensor argument; None for one that is no signal."""
    outputs: Sequence[Tensor]
    where: str
    """The submodule and the line of code that called it, in words, as in `TraceStep.where`."""

    @property
    def input_index(self) -> int:
        """Which of its tensor arguments is the first of all or the one named `input`; −1 if none is."""
        first = self.args[0] if self.args else self.kwargs.get("input")
        tensors = enumerate(iter_tensors((self.args, self.kwargs)))
        return next((index for index, tensor in tensors if tensor is first), -1)

    @property
    def input_field(self) -> SignalField | None:
        """The field of that argument; None if it is no signal."""
        return self.fields[self.input_index] if self.input_index >= 0 else None

    @property
    def signal_fields(self) -> list[SignalField]:
        """The fields of those arguments that are signals."""
        return [field for field in self.fields if field is not None]


def fields_after(call: TracedCall) -> list[SignalField]:
    """The field of each output of a call with at least one signal among its arguments."""
    whole = [field.regular for field in call.signal_fields if field.is_whole]
    if len(whole) == len(call.signal_fields):
        return [SignalField(reduce(ReceptiveField.union, whole))] * len(call.outputs)
    if reads_where_data_say(call.func, call.args, call.signals) and not is_elementwise(call.func, call.args, call.kwargs):
        return [nothing_known(call, FieldStatus.DATA_DEPENDENT)] * len(call.outputs)
    for rule in (_regular_window, _regular_pointwise):
        field = rule(call)
        if field is not None:
            return [field] * len(call.outputs)
    for follow in (_follow_reads, _follow_elements, _follow_mixing, _follow_products, _follow_moves):
        reaches = follow(call)
        if reaches is not None and all(map(_fits, reaches, call.outputs)):
            return [_settle(call, reach, output.shape) for reach, output in zip(reaches, call.outputs, strict=True)]
    return [nothing_known(call, FieldStatus.WHOLE_IMAGE)] * len(call.outputs)


def layer_field(field: SignalField, shape: torch.Size) -> ReceptiveField:
    """The receptive field of a layer, the output of which is a signal of this shape (N, C, rows, columns) or (N, C)."""
    regular = field.regular
    if len(shape) < 4:  # fully connected: all of the image, even if strides leave out some of its border
        return ReceptiveField.whole_input(regular.height, regular.width).no_better_than(regular.status)
    if field.reach is None:
        return regular
    return fit_field(field.reach, shape, regular.height, regular.width).no_better_than(regular.status)


def write_through(changed: Tensor, new: SignalField, alias: Tensor, old: SignalField) -> SignalField:
    """The field of a tensor with the field `old` that shares memory with one that has changed in place and now has `new`."""
    if new.is_whole or (changed.shape, changed.stride(), changed.storage_offset()) == (
        *(alias.shape, alias.stride(), alias.storage_offset()),
    ):
        return new
    if new.reach is None and old.reach is None and new.regular == old.regular:
        return replace(old, channels_differ=old.channels_differ or new.channels_differ)
    size = alias.untyped_storage().nbytes() // alias.element_size()
    memory = torch.full((4, size), -torch.inf, device="cpu")

    def seen(tensor: Tensor) -> Tensor:
        return memory.as_strided((4, *tensor.shape), (size, *tensor.stride()), tensor.storage_offset())

    for tensor, field in ((alias, old), (changed, new)):
        seen(tensor).copy_(_reach(field, tensor.shape).expand(4, *tensor.shape))
    return _settled(seen(alias), alias.shape, old.regular.union(new.regular), channels_differ=True)


def nothing_known(call: TracedCall, status: FieldStatus = FieldStatus.WHOLE_IMAGE) -> SignalField:
    """The whole image, as the call cannot be followed, which the field names."""
    regular, unfollowed = call.signal_fields[0].regular, f"{function_name(call.func).strip('_')}{call.where}"
    return SignalField(ReceptiveField.whole_input(regular.height, regular.width, status, unfollowed))


# Regular fields


def _regular_window(call: TracedCall) -> SignalField | None:
    field = call.input_field
    if field is None or field.reach is not None or len(call.signal_fields) > 1:
        return None
    sliding = match_sliding_window(call.func, call.args, call.kwargs)
    if sliding is None or _pools_everything(call):
        return None
    return SignalField(
        field.regular.after_window(*sliding.window), None, field.channels_differ and not _mixes_channels(call)
    )


def _pools_everything(call: TracedCall) -> bool:
    """Is it a global pooling? Behind it there are no positions."""
    reads = match_reads(call.func, call.args, call.kwargs)
    return reads is not None and reads.is_adaptive and tuple(call.outputs[0].shape[-2:]) == (1, 1)


def _regular_pointwise(call: TracedCall) -> SignalField | None:
    fields = call.signal_fields
    if any(field.reach is not None for field in fields) or not _is_pointwise(call):
        return None
    regular = [field.regular for field in fields]
    if len({(field.rows.jump, field.columns.jump) for field in regular}) > 1 and not any(f.is_whole for f in regular):
        return None
    united = reduce(ReceptiveField.union, regular)
    differ = any(field.channels_differ for field in fields)
    if differ and picks_channels(call.func):  # what is known is the field of all of them together
        united = united.no_better_than(FieldStatus.UPPER_BOUND)
    return SignalField(united, None, differ or (joins_channels(call.func) and len(set(regular)) > 1))


def _mixes_channels(call: TracedCall) -> bool:
    reads = match_reads(call.func, call.args, call.kwargs)
    return reads is not None and reads.groups == 1


def _is_pointwise(call: TracedCall) -> bool:
    return all(
        is_pointwise(call.func, call.args, call.kwargs, shape, output)
        for shape, field in zip(call.shapes, call.fields, strict=True)
        if field is not None
        for output in call.outputs
    )


# Element by element. Each rule returns the reach of each output, or None if it is not made for the call.


def _reach(field: SignalField, shape: Sequence[int]) -> Tensor:
    if field.reach is not None:
        return field.reach
    if field.is_whole:
        height, width = field.regular.height, field.regular.width
        return torch.tensor([0.0, 0.0, height, width]).view(4, *(1,) * len(shape))
    return reach_of(field.regular, shape)


def _reaches(call: TracedCall) -> list[Tensor | None]:
    """The reach of each tensor argument; None for one that is no signal."""
    return [None if field is None else _reach(field, shape) for field, shape in zip(call.fields, call.shapes, strict=True)]


def _follow_reads(call: TracedCall) -> list[Tensor] | None:
    reads, field = match_reads(call.func, call.args, call.kwargs), call.input_field
    if reads is None or field is None:
        return None
    reaches, shape = _reaches(call), call.shapes[call.input_index]
    reach = reaches.pop(call.input_index)
    assert reach is not None
    axes, size = len(reads.axes), call.outputs[0].shape
    channels = len(shape) - axes
    if reads.groups is not None and reach.shape[channels] > 1:
        groups = reach.chunk(reads.groups, dim=channels)
        per_group = size[channels - 1] // reads.groups
        reach = torch.cat([hull(group, [channels - 1]).repeat_interleave(per_group, channels) for group in groups], channels)
    for dim, read in zip(range(-axes, 0), reads.axes, strict=True):
        reach = gather(reach, dim, read(shape[dim], size[dim]))
    weights = [hull(other, range(other.dim() - 1)) for other in reaches if other is not None]
    return [union([reach, *weights])] * len(call.outputs)


def _follow_elements(call: TracedCall) -> list[Tensor] | None:
    if not is_elementwise(call.func, call.args, call.kwargs):
        return None
    return [union([reach for reach in _reaches(call) if reach is not None])] * len(call.outputs)


def _follow_mixing(call: TracedCall) -> list[Tensor] | None:
    field, index = call.input_field, call.input_index
    if field is None or len(call.signal_fields) > 1:
        return None
    mixed = mixed_dims(call.func, call.args, call.kwargs, len(call.shapes[index]))
    if mixed is None:
        return None
    dims, stay = mixed
    reach = hull(_reach(field, call.shapes[index]), dims)
    return [reach if stay else reach.squeeze([dim + 1 for dim in dims])] * len(call.outputs)


def _follow_products(call: TracedCall) -> list[Tensor] | None:
    named = product_labels(call.func, call.args, [len(shape) for shape in call.shapes])
    if named is None or len(named[0]) < len(call.fields) or any(isinstance(value, Tensor) for value in call.kwargs.values()):
        return None
    labels, output = named
    parts = []
    for label, reach in zip(labels, _reaches(call), strict=False):
        if reach is not None:
            summed = hull(reach, [dim for dim, name in enumerate(label) if name not in output])
            kept = [label.index(name) for name in output if name in label]
            summed = summed.permute(0, *(dim + 1 for dim in (*kept, *(d for d in range(len(label)) if d not in kept))))
            sizes = iter(summed.shape[1:])
            parts.append(summed.reshape(4, *(next(sizes) if name in label else 1 for name in output)))
    return [union(parts)]


def _follow_moves(call: TracedCall) -> list[Tensor] | None:
    if not moves_elements(call.func):
        return None
    full = [reach.expand(4, *shape) for reach, shape in zip(_reaches(call), call.shapes, strict=True) if reach is not None]
    try:
        return move(lambda tensors: _run_on(call, tensors), full)
    except (RuntimeError, TypeError, ValueError, IndexError):  # what is done to float32 on a CPU may be wrong for indices
        return None


def _run_on(call: TracedCall, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Run a call that moves elements on other tensors in place of its signals, and zeros in place of other elements."""
    signals, others = iter(call.signals), iter(tensors)

    def substitute(tensor: Tensor) -> Tensor:
        if next(signals) is not None:
            return next(others)
        is_index = not (tensor.is_floating_point() or joins(call.func))
        return tensor.cpu() if is_index else torch.zeros(tensor.shape)

    args, kwargs = map_tensors((call.args, call.kwargs), substitute)
    if not is_assignment(call.func):
        return list(iter_tensors(call.func(*args, **kwargs)))
    target = args[0].clone()
    target[args[1]] = args[2] if isinstance(args[2], Tensor) else 0.0
    return [target]


def _fits(reach: Tensor, output: Tensor) -> bool:
    """Can the reach be that of the output?"""
    return reach.dim() == output.dim() + 1 and all(
        size in (1, length) for size, length in zip(reach.shape[1:], output.shape, strict=True)
    )


def _settle(call: TracedCall, reach: Tensor, shape: torch.Size) -> SignalField:
    """The field of an output with this reach and shape."""
    regular = _if_only_shifted(call)
    if regular.is_whole:  # a part of the signals is, but not all
        regular = next(field.regular for field in call.signal_fields if not field.regular.is_whole)
        regular = regular.no_better_than(FieldStatus.UPPER_BOUND)
    differ = any(field.channels_differ for field in call.signal_fields) and not _mixes_channels(call)
    if differ and moves_elements(call.func):  # perhaps not all channels
        regular = regular.no_better_than(FieldStatus.UPPER_BOUND)
    settled = _settled(reach, shape, regular, differ)
    whole = [field.regular for field in call.signal_fields if field.is_whole]
    return SignalField(reduce(ReceptiveField.union, whole)) if settled.is_whole and whole else settled


def _if_only_shifted(call: TracedCall) -> ReceptiveField:
    """The regular field that the output would have if the call did no more than windows and constant padding do."""
    regular = reduce(ReceptiveField.union, (field.regular for field in call.signal_fields))
    sliding = match_sliding_window(call.func, call.args, call.kwargs)
    if sliding is not None:
        return regular.after_window(*sliding.window)
    reads = match_reads(call.func, call.args, call.kwargs)
    return regular.after_window((1, 1), (1, 1), reads.padding, (1, 1)) if reads is not None else regular


def _one_box(reach: Tensor, image: ReceptiveField) -> ReceptiveField:
    """The field of elements that all have this reach, in an image of the size of that of `image`."""
    up, outwards, bottom, right = (int(side) for side in reach.flatten())
    top, left = -up, -outwards
    if (top, left, bottom, right) == (0, 0, image.height, image.width):
        return ReceptiveField.whole_input(image.height, image.width)
    axes = Axis(0, bottom - top, top), Axis(0, right - left, left)
    return replace(image, rows=axes[0], columns=axes[1])


def _settled(reach: Tensor, shape: torch.Size, regular: ReceptiveField, channels_differ: bool) -> SignalField:
    reach = shrink(reach)
    has_positions = len(shape) > 2 and tuple(shape[-2:]) != (1, 1) and regular.rows.jump and regular.columns.jump
    if has_positions and bool((reach == reach_of(regular, shape)).all()):
        return SignalField(regular, None, channels_differ)
    if reach.numel() == 4 and bool(reach.isfinite().all()):  # all elements see the same
        return SignalField(_one_box(reach, regular))
    return SignalField(regular, reach, channels_differ)
