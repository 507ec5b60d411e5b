"""Putting cut-outs where they belong."""

from torch import Tensor


def paste(into: Tensor, tensor: Tensor, starts: Tensor) -> None:
    """Put tensor[n] (…, h, w) into into[n] (…, H, W) at the row and column starts[n], as far as it fits."""
    (height, width), (rows, columns) = tensor.shape[-2:], into.shape[-2:]
    for whole, part, (row, column) in zip(into, tensor, starts.tolist(), strict=True):
        top, left, bottom, right = max(row, 0), max(column, 0), min(row + height, rows), min(column + width, columns)
        if top < bottom and left < right:
            whole[..., top:bottom, left:right] = part[..., top - row : bottom - row, left - column : right - column]
