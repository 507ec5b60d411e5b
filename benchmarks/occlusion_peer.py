"""Occlusion as others do it: captum's Occlusion."""

from collections.abc import Callable

import torch
from captum.attr import Occlusion
from torch import Tensor


@torch.inference_mode()
def occlude(
    probabilities: Callable[[Tensor], Tensor], x: Tensor, target: int, size: int, stride: int, batch_size: int
) -> Tensor:
    """How much each pixel of x (1, 3, H, W) matters to the class: (1, 3, H, W). A square of 0 covers all three channels."""
    return Occlusion(probabilities).attribute(
        x, (3, size, size), strides=(3, stride, stride), baselines=0, target=target, perturbations_per_eval=batch_size
    )
