"""What happens inside a module during one forward pass, seen without touching the module: layers and receptive fields."""

from deconvnet.tracing.cropped_forward import (
    Cone,
    CroppedForward,
    TraceMismatch,
    cone,
    paste,
)
from deconvnet.tracing.graph import Layer, Trace, trace
from deconvnet.tracing.incremental_forward import ActivationCache, IncrementalForward
from deconvnet.tracing.intercept import Rules, bfloat16_is_slow, evaluation_mode, exact_float32, run_intercepted
from deconvnet.tracing.layer_weights import Filters, filters
from deconvnet.tracing.receptive_field import Box, ReceptiveField

__all__ = [
    "ActivationCache",
    "Box",
    "Cone",
    "CroppedForward",
    "Filters",
    "IncrementalForward",
    "Layer",
    "ReceptiveField",
    "Rules",
    "Trace",
    "TraceMismatch",
    "bfloat16_is_slow",
    "cone",
    "evaluation_mode",
    "exact_float32",
    "filters",
    "paste",
    "run_intercepted",
    "trace",
]
