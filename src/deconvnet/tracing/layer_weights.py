"""The filters that make a layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.tracing.graph import Trace

#: Calls that change nothing, or all units alike, or each by adding to it.
_STRENGTH_STAYS = frozenset(
    "add iadd dropout feature_dropout max_pool2d boolean_dispatch avg_pool2d contiguous clone".split()
    + "float half bfloat16 to type".split()
)
#: Calls that multiply each unit by a number of its own.
_RESCALING = frozenset("batch_norm mul imul div".split())


@dataclass(frozen=True)
class Filters:
    """The weights of the convolution, or of the fully connected product, in front of a layer's ReLU."""

    weights: Tensor
    """(units, maps, rows, columns), or (units, inputs) of a fully connected layer."""
    groups: int = 1
    """Into how many groups units and maps are divided; a unit sees the maps of its own group only."""
    rescaled: bool = False
    """Are units multiplied by numbers of their own on the way to the ReLU, as batch normalisation does? Then the sizes of
    their weights say little of the strength of their answers."""
    lowest: bool = True
    """Is there no such product below?"""


def filters(trace: Trace, layer: int) -> Filters | None:
    """The filters of the layer whose `Layer.index` is given.

    None where the layer is not made of one product alone, up to what works on each unit for itself (a bias, batch
    normalisation, pooling, dropout): a sum of two branches, say.
    """
    end = next(number for number, step in enumerate(trace.steps) if step.layer == layer)
    units = trace.shapes[trace.steps[end].outputs[0]][1]
    signals, rescaled = _signals(trace.steps[end].inputs), False
    for number, step in reversed(list(enumerate(trace.steps[:end]))):
        if not signals.intersection(step.outputs):
            continue
        shapes = [trace.shapes[signal] for signal in _signals(step.inputs)]
        if step.weight is not None:
            groups = shapes[0][1] // step.weight.shape[1] if step.func is torch.conv2d else 1
            lowest = all(earlier.weight is None for earlier in trace.steps[:number])
            return Filters(step.weight.detach(), groups, rescaled, lowest) if len(step.weight) == units else None
        name = getattr(step.func, "__name__", "").strip("_")
        rescaled = rescaled or name in _RESCALING
        if name not in _STRENGTH_STAYS | _RESCALING or len(shapes) != 1 or shapes[0][1:2] != (units,):
            return None
        signals = _signals(step.inputs)
    return None


def _signals(inputs: tuple[int | None, ...]) -> set[int]:
    return {number for number in inputs if number is not None}
