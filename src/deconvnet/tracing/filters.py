"""The filters that make a layer."""

from dataclasses import dataclass

from torch import Tensor

from deconvnet.tracing.trace import Trace

#: Calls that change each unit for itself, or nothing at all.
_EACH_FOR_ITSELF = frozenset(
    "batch_norm add iadd sub mul imul div dropout feature_dropout max_pool2d boolean_dispatch avg_pool2d".split()
    + "contiguous clone float half bfloat16 to type".split()
)


@dataclass(frozen=True)
class Filters:
    """The weights of the convolution, or of the fully connected product, in front of a layer's ReLU."""

    weights: Tensor
    """(units, maps, rows, columns), or (units, inputs) of a fully connected layer."""
    groups: int = 1
    """Into how many groups units and maps are divided; a unit sees the maps of its own group only."""


def filters(trace: Trace, layer: int) -> Filters | None:
    """The filters of the layer whose `Layer.index` is given.

    None where the layer is not made of one product alone, up to what works on each unit for itself (a bias, batch
    normalisation, pooling, dropout): a sum of two branches, say.
    """
    end = next(number for number, step in enumerate(trace.steps) if step.layer == layer)
    units = trace.shapes[trace.steps[end].outputs[0]][1]
    signals = {number for number in trace.steps[end].inputs if number is not None}
    for step in reversed(trace.steps[:end]):
        if not signals.intersection(step.outputs):
            continue
        if step.weight is not None:
            maps = trace.shapes[step.inputs[0] or 0][1]
            alike = len(step.weight) == units
            return Filters(step.weight.detach(), maps // step.weight.shape[1]) if alike else None
        signals = {number for number in step.inputs if number is not None}
        name = getattr(step.func, "__name__", "").strip("_")
        if name not in _EACH_FOR_ITSELF or [trace.shapes[number][1] for number in signals] != [units]:
            return None
    return None
