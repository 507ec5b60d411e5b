"""Which torch calls are local response normalisation, and which are batch normalisation by the batch's own statistics."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F

from deconvnet.local_response_norm import normalise_by
from deconvnet.tracing.ops.nested_tensors import Args, Kwargs


def is_local_response_norm(func: Callable[..., Any]) -> bool:
    """Is the function local response normalisation, across feature maps (Krizhevsky et al. 2012, section 3.3)?"""
    return func is F.local_response_norm or func is normalise_by


def uses_batch_statistics(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    """Is the call a batch normalisation by the statistics of the batch, not by running statistics?"""
    if func is not F.batch_norm:
        return False
    return bool(args[5] if len(args) > 5 else kwargs.get("training", False))


def is_over_last_dim(func: Callable[..., Any], args: Args) -> bool:
    """Is it a fully connected product or a normalisation over the last dimension, which then has the channels?"""
    if func is F.layer_norm:
        return len(args) > 1 and len(args[1]) == 1
    return func is F.linear
