"""The weights that a layer is computed with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.tracing.graph import Trace
from deconvnet.tracing.ops.spellings import function_name

#: Functions, by name, that change nothing, change all units alike, or add to each unit.
_SCALE_PRESERVING = frozenset(
    "add iadd dropout feature_dropout max_pool2d boolean_dispatch avg_pool2d contiguous clone".split()
    + "float half bfloat16 to type".split()
)
#: Functions, by name, that may multiply each unit by a different number.
_RESCALING = frozenset("batch_norm mul imul div".split())


@dataclass(frozen=True)
class LayerWeights:
    """The weights of the convolution, or of the fully connected product, in front of a layer's ReLU."""

    weights: Tensor
    """(units, maps, rows, columns), or (units, inputs) of a fully connected layer."""
    groups: int = 1
    """Groups that units and maps are divided into; a unit is connected to the maps of its own group only."""
    rescaled: bool = False
    """Is each unit multiplied by a number before the ReLU, as by batch normalisation? Then the norm of its weights says
    little about the strength of its activations."""
    is_first: bool = True
    """Is there no convolution or fully connected product below?"""


def layer_weights(trace: Trace, layer_index: int) -> LayerWeights | None:
    """The weights of the layer with this `Layer.index`.

    None if the layer is not computed by one product alone, apart from what acts on each unit separately (a bias, batch
    normalisation, pooling, dropout): for a sum of two branches, say.
    """
    last = trace.layer_step(layer_index)
    units = trace.shapes[trace.steps[last].outputs[0]][1]
    signals, rescaled = _input_signals(trace.steps[last].inputs), False
    for index, step in reversed(list(enumerate(trace.steps[:last]))):
        if not signals.intersection(step.outputs):
            continue
        signals = _input_signals(step.inputs)
        shapes = [trace.shapes[signal] for signal in signals]
        if step.weight is not None:
            groups = shapes[0][1] // step.weight.shape[1] if step.func is torch.conv2d else 1
            is_first = all(earlier.weight is None for earlier in trace.steps[:index])
            return LayerWeights(step.weight.detach(), groups, rescaled, is_first) if len(step.weight) == units else None
        name = function_name(step.func).strip("_")
        rescaled = rescaled or name in _RESCALING
        if name not in _SCALE_PRESERVING | _RESCALING or len(shapes) != 1 or shapes[0][1:2] != (units,):
            return None
    return None


def _input_signals(inputs: tuple[int | None, ...]) -> set[int]:
    return {signal for signal in inputs if signal is not None}
