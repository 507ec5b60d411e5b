"""Receptive fields: the input pixels that one activation of a layer depends on.

Along one axis, activation i of a layer depends on the input pixels [start + i·jump, start + i·jump + size). A convolution
or pooling with kernel k, stride s, padding p and dilation d turns (jump, size, start) into
(jump·s, size + (k−1)·d·jump, start − p·jump): Dumoulin & Visin 2016, "A guide to convolution arithmetic".
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from deconvnet.formatting import field_size

Pair = tuple[int, int]


class Box(NamedTuple):
    """A rectangle of input pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class FieldStatus(StrEnum):
    """What is known of a layer's receptive field."""

    EXACT = "exact"
    """The box is the smallest that holds all pixels on which units of the layer depend at a position. Where windows read
    padding, some of it may be unused.
    """
    UPPER_BOUND = "upper bound"
    """Units depend on nothing outside the box, and perhaps on less."""
    WHOLE_IMAGE = "whole image"
    """Each activation depends on all positions, or on a call that cannot be followed (`ReceptiveField.unfollowed`)."""
    DATA_DEPENDENT = "depends on the data"
    """What is in the image decides which pixels count, so the whole image is taken."""


@dataclass(frozen=True)
class Axis:
    """A receptive field along rows or along columns, in pixels. If `jump` is 0, all activations have the same field; below
    0, the map is mirrored.
    """

    jump: int = 1
    size: int = 1
    start: int = 0

    def as_json(self) -> dict[str, int]:
        """Plain values with the keys of atlas.json and the live page."""
        return {"jump": self.jump, "size": self.size, "start": self.start}

    def after_window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Axis":
        """The field behind a sliding window over a layer with this field."""
        return Axis(self.jump * stride, self.size + (kernel - 1) * dilation * self.jump, self.start - padding * self.jump)

    def required_inputs(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Axis":
        """The positions that a sliding window reads in its input map to compute these positions of its output."""
        return Axis(
            self.jump * stride, (self.size - 1) * stride + (kernel - 1) * dilation + 1, self.start * stride - padding
        )

    def union(self, other: "Axis", full_size: int) -> "Axis":
        """Bounding union, the field of a sum or concatenation of two maps; `full_size` pixels if the jumps differ."""
        if self.jump != other.jump:
            return Axis(0, full_size, 0)
        start = min(self.start, other.start)
        return Axis(self.jump, max(self.start + self.size, other.start + other.size) - start, start)


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels of a `height` × `width` input that the activation at a row and column of a layer depends on."""

    rows: Axis
    columns: Axis
    height: int
    width: int
    status: FieldStatus = FieldStatus.EXACT
    unfollowed: str = ""
    """The call behind which nothing is known, with its module, if that is why the field is the whole image."""

    def as_json(self) -> dict[str, Any]:
        """Plain values with the keys of atlas.json and the live page; no `status` if it is exact."""
        status = {} if self.status is FieldStatus.EXACT else {"status": self.status.value}
        return {"rows": self.rows.as_json(), "columns": self.columns.as_json(), **status}

    def __str__(self) -> str:
        """Height × width in pixels if it is exact; otherwise in words, such as "at most 37×37"."""
        return field_size(self.size, self.status)

    @staticmethod
    def whole_input(
        height: int, width: int, status: FieldStatus = FieldStatus.WHOLE_IMAGE, unfollowed: str = ""
    ) -> "ReceptiveField":
        """The field of a layer whose activations all depend on the whole input, as behind a fully connected layer."""
        return ReceptiveField(Axis(0, height, 0), Axis(0, width, 0), height, width, status, unfollowed)

    @property
    def is_whole(self) -> bool:
        """Is it the whole image at every position?"""
        return self.status in (FieldStatus.WHOLE_IMAGE, FieldStatus.DATA_DEPENDENT)

    def after_window(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> "ReceptiveField":
        """The field behind a sliding window over a layer with this field; arguments are (rows, columns)."""
        rows, columns = zip(kernel, stride, padding, dilation, strict=True)
        return replace(self, rows=self.rows.after_window(*rows), columns=self.columns.after_window(*columns))

    def union(self, other: "ReceptiveField") -> "ReceptiveField":
        """Bounding union, the field of a sum or concatenation of two maps; the whole axis where the jumps differ."""
        if self.is_whole or other.is_whole:
            unfollowed = self.unfollowed or other.unfollowed
            return self.whole_input(self.height, self.width, self.no_better_than(other.status).status, unfollowed)
        rows, columns = self.rows.union(other.rows, self.height), self.columns.union(other.columns, self.width)
        return replace(self, rows=rows, columns=columns).no_better_than(other.status)

    def no_better_than(self, status: FieldStatus) -> "ReceptiveField":
        """The same field, of which no more is known than that status says."""
        return replace(self, status=max(self.status, status, key=list(FieldStatus).index))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, where the input's border does not clip the field."""
        return self.rows.size, self.columns.size

    def box(self, row: int, column: int) -> Box:
        """The field of the activation at (row, column), including padding: it may extend beyond the input."""
        top, left = self.rows.start + row * self.rows.jump, self.columns.start + column * self.columns.jump
        return Box(left, top, left + self.columns.size, top + self.rows.size)

    def clipped_box(self, row: int, column: int) -> Box:
        """The field of the activation at (row, column), clipped to the input."""
        left, top, right, bottom = self.box(row, column)
        left, top = max(left, 0), max(top, 0)
        # The box is empty if the field lies entirely in the padding.
        return Box(left, top, max(left, min(right, self.width)), max(top, min(bottom, self.height)))

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of every `patch_box`: the size of the field, at most that of the input."""
        return min(self.rows.size, self.height), min(self.columns.size, self.width)

    def patch_box(self, row: int, column: int) -> Box:
        """The field of the activation, moved inside the input, so that all patches of a layer have one size as in Fig. 2."""
        left, top, _, _ = self.box(row, column)
        height, width = self.patch_size
        left, top = min(max(left, 0), self.width - width), min(max(top, 0), self.height - height)
        return Box(left, top, left + width, top + height)
