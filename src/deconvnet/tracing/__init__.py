"""What happens inside a module during one forward pass, seen without touching the module: layers and receptive fields."""

from deconvnet.tracing.receptive_field import Box, ReceptiveField
from deconvnet.tracing.trace import Layer, Trace, trace
from deconvnet.tracing.watch import Rules, evaluating, exact_float32, watch

__all__ = ["Box", "Layer", "ReceptiveField", "Rules", "Trace", "evaluating", "exact_float32", "trace", "watch"]
