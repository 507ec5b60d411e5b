"""What happens inside a module during one forward pass, seen without touching the module: layers and receptive fields."""

from deconvnet.tracing.cone import Cone, CutOut, UnlikeTrace, cone
from deconvnet.tracing.evaluating import evaluating, exact_float32, slow_bfloat16
from deconvnet.tracing.filters import Filters, filters
from deconvnet.tracing.paste import paste
from deconvnet.tracing.patched import Patched, Unchanged
from deconvnet.tracing.receptive_field import Box, ReceptiveField
from deconvnet.tracing.trace import Layer, Trace, trace
from deconvnet.tracing.watch import Rules, watch

__all__ = [
    "Box",
    "Cone",
    "CutOut",
    "Filters",
    "Layer",
    "Patched",
    "ReceptiveField",
    "Rules",
    "Trace",
    "Unchanged",
    "UnlikeTrace",
    "cone",
    "evaluating",
    "exact_float32",
    "filters",
    "paste",
    "slow_bfloat16",
    "trace",
    "watch",
]
