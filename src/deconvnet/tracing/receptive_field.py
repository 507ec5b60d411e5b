"""Which input pixels one activation of a layer can see.

Along one axis, activation i of a layer sees the input pixels [start + i·jump, start + i·jump + size). A convolution or
pooling with kernel k, stride s, padding p and dilation d turns (jump, size, start) into
(jump·s, size + (k−1)·d·jump, start − p·jump): Dumoulin & Visin 2016, "A guide to convolution arithmetic".
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

Pair = tuple[int, int]


class Box(NamedTuple):
    """A rectangle of input pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Axis:
    """A receptive field along rows or along columns, in pixels. A `jump` of 0 means that every activation sees the same."""

    jump: int = 1
    size: int = 1
    start: int = 0

    def as_json(self) -> dict[str, int]:
        """Plain values, as atlas.json and the live page name them."""
        return {"jump": self.jump, "size": self.size, "start": self.start}

    def through_window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Axis":
        """The field of a layer whose activations each see a window of this layer's."""
        return Axis(self.jump * stride, self.size + (kernel - 1) * dilation * self.jump, self.start - padding * self.jump)

    def under_window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Axis":
        """Which places a window made these places from, in the map below."""
        return Axis(
            self.jump * stride, (self.size - 1) * stride + (kernel - 1) * dilation + 1, self.start * stride - padding
        )

    def joined(self, other: "Axis", length: int) -> "Axis":
        """The field of a sum or a concatenation of two maps; everything (`length` pixels) if they are on unlike grids."""
        if self.jump != other.jump:
            return Axis(0, length, 0)
        start = min(self.start, other.start)
        return Axis(self.jump, max(self.start + self.size, other.start + other.size) - start, start)


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels of an input of `height` × `width` the activation at a row and column of a layer can see."""

    rows: Axis
    columns: Axis
    height: int
    width: int

    def as_json(self) -> dict[str, dict[str, int]]:
        """Plain values, as atlas.json and the live page name them."""
        return {"rows": self.rows.as_json(), "columns": self.columns.as_json()}

    @staticmethod
    def whole(height: int, width: int) -> "ReceptiveField":
        """Every activation sees the whole input, as behind a fully connected layer."""
        return ReceptiveField(Axis(0, height, 0), Axis(0, width, 0), height, width)

    def through_window(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> "ReceptiveField":
        """The field of a layer whose activations each see a window of this layer's; all in (rows, columns)."""
        rows, columns = zip(kernel, stride, padding, dilation, strict=True)
        return replace(self, rows=self.rows.through_window(*rows), columns=self.columns.through_window(*columns))

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        """The field of a sum or a concatenation of two maps."""
        rows, columns = self.rows.joined(other.rows, self.height), self.columns.joined(other.columns, self.width)
        return replace(self, rows=rows, columns=columns)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels that one activation sees, where the border does not cut them."""
        return self.rows.size, self.columns.size

    def box(self, row: int, column: int) -> Box:
        """The pixels that the activation sees, padding beyond the border included, so it may leave the input."""
        top, left = self.rows.start + row * self.rows.jump, self.columns.start + column * self.columns.jump
        return Box(left, top, left + self.columns.size, top + self.rows.size)

    def clipped_box(self, row: int, column: int) -> Box:
        """The pixels that the activation sees and that exist."""
        left, top, right, bottom = self.box(row, column)
        left, top = max(left, 0), max(top, 0)
        # A window that lies in the padding altogether sees no pixel: an empty box.
        return Box(left, top, max(left, min(right, self.width)), max(top, min(bottom, self.height)))

    def patch_box(self, row: int, column: int) -> Box:
        """The field moved inside the input, so that all pictures of a layer have one size, as in the paper's figures."""
        left, top, _, _ = self.box(row, column)
        width, height = min(self.columns.size, self.width), min(self.rows.size, self.height)
        left, top = min(max(left, 0), self.width - width), min(max(top, 0), self.height - height)
        return Box(left, top, left + width, top + height)
