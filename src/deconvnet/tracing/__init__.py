"""What happens inside a module during one forward pass: layers, receptive fields, captures and partial runs."""

from deconvnet.tracing.code_location import describe_error, describe_failure, first_of
from deconvnet.tracing.cropped_forward import CroppedForward, CropPlan, TraceMismatch, paste, plan_crop
from deconvnet.tracing.float32_precision import bfloat16_is_slow, exact_float32, float32_precision
from deconvnet.tracing.graph import Layer, Trace
from deconvnet.tracing.incremental_forward import ActivationCache, IncrementalForward
from deconvnet.tracing.intercept import PartialForward, Rules, evaluation_mode, run_intercepted
from deconvnet.tracing.layer_weights import LayerWeights, layer_weights
from deconvnet.tracing.module_output import find_output
from deconvnet.tracing.ops.activations import explain_refusal
from deconvnet.tracing.ops.nested_tensors import iter_tensors
from deconvnet.tracing.placeholders import empty_maps, placeholder
from deconvnet.tracing.receptive_field import Box, FieldStatus, ReceptiveField
from deconvnet.tracing.switches import (
    SwitchedPass,
    SwitchPlan,
    SwitchRecorder,
    crop_switches,
    custom_functions,
    plan_switches,
)
from deconvnet.tracing.tracer import refuse_hidden_calls, trace

__all__ = [
    "ActivationCache",
    "Box",
    "CropPlan",
    "CroppedForward",
    "FieldStatus",
    "IncrementalForward",
    "Layer",
    "LayerWeights",
    "PartialForward",
    "ReceptiveField",
    "Rules",
    "SwitchPlan",
    "SwitchRecorder",
    "SwitchedPass",
    "Trace",
    "TraceMismatch",
    "bfloat16_is_slow",
    "crop_switches",
    "custom_functions",
    "describe_error",
    "describe_failure",
    "empty_maps",
    "evaluation_mode",
    "exact_float32",
    "explain_refusal",
    "find_output",
    "first_of",
    "float32_precision",
    "iter_tensors",
    "layer_weights",
    "paste",
    "placeholder",
    "plan_crop",
    "plan_switches",
    "refuse_hidden_calls",
    "run_intercepted",
    "trace",
]
