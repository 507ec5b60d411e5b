"""What happens inside a module during one forward pass, seen without touching the module: layers and receptive fields."""

from deconvnet.tracing.receptive_field import Box, ReceptiveField
from deconvnet.tracing.trace import Layer, trace
from deconvnet.tracing.watch import Rules, watch

__all__ = ["Box", "Layer", "ReceptiveField", "Rules", "trace", "watch"]
