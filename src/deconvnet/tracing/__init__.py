"""What happens inside a module during one forward pass: layers, receptive fields, captures and partial runs."""

from deconvnet.tracing.cropped_forward import CroppedForward, CropPlan, TraceMismatch, paste, plan_crop
from deconvnet.tracing.graph import Layer, Trace, trace
from deconvnet.tracing.incremental_forward import ActivationCache, IncrementalForward
from deconvnet.tracing.intercept import Rules, bfloat16_is_slow, evaluation_mode, exact_float32, run_intercepted
from deconvnet.tracing.layer_weights import LayerWeights, layer_weights
from deconvnet.tracing.receptive_field import Box, ReceptiveField

__all__ = [
    "ActivationCache",
    "Box",
    "CropPlan",
    "CroppedForward",
    "IncrementalForward",
    "Layer",
    "LayerWeights",
    "ReceptiveField",
    "Rules",
    "Trace",
    "TraceMismatch",
    "bfloat16_is_slow",
    "evaluation_mode",
    "exact_float32",
    "layer_weights",
    "paste",
    "plan_crop",
    "run_intercepted",
    "trace",
]
