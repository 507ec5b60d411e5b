"""Which pixels activations depend on, by their gradients."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.tracing import Box


def bounding_box(gradient: Tensor) -> Box | None:
    """The smallest box that holds every pixel with a gradient (1, C, H, W); None if there is none."""
    rows, columns = ((gradient[0] != 0).any(dim=0).any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else None


def some_positions(height: int, width: int) -> set[tuple[int, int]]:
    """The corners, the middle, a position next to a corner, and a few others."""
    others = torch.randint(1 << 30, (6, 2), generator=torch.Generator().manual_seed(0)).tolist()
    return {
        (0, 0),
        (0, width - 1),
        (height - 1, 0),
        (height - 1, width - 1),
        (height // 2, width // 2),
        (min(1, height - 1), 0),
        *((row % height, column % width) for row, column in others),
    }


def supports(
    module: nn.Module, images: Iterable[Tensor], positions: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Box]:
    """By position, the box of the pixels of which any unit of the last ReLU's input has a gradient, in any of the images.

    ReLUs pass everything, so that none hides what lies behind it.
    """
    totals: dict[tuple[int, int], Tensor] = {}
    for image in images:
        x = image.clone().requires_grad_()
        with _LinearReLUs() as relus:
            module(x)
        for row, column in positions:
            units = relus.last[0, :, row, column]
            for unit in units[torch.linspace(0, len(units) - 1, min(len(units), 16)).long()]:
                (gradient,) = torch.autograd.grad(unit, x, retain_graph=True, allow_unused=True)
                totals.setdefault((row, column), torch.zeros_like(x)).add_(0 if gradient is None else gradient.abs())
    return {position: box for position, total in totals.items() if (box := bounding_box(total)) is not None}


class _LinearReLUs(TorchFunctionMode):
    last: Tensor

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (F.relu, torch.relu):
            return func(*args, **(kwargs or {}))
        self.last = args[0]
        return args[0].clone()
