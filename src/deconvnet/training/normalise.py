"""Examples as a network takes them."""

import torch
from torch import Tensor

from deconvnet.data import Preprocessing
from deconvnet.training.data import TrainingBatch
from deconvnet.training.recipe import Recipe


class Normalise:
    """Moves examples to a device, subtracts the mean image and divides by the deviation."""

    def __init__(self, preprocessing: Preprocessing, recipe: Recipe, device: torch.device) -> None:
        self.mean = preprocessing.mean.permute(1, 2, 0).contiguous().to(device)
        self.deviation, self.device = recipe.deviation, device
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.half = recipe.precision == "bfloat16"

    def __call__(self, examples: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Inputs (n, 3, crop, crop) float32 and targets (n,) int64, both on the device."""
        pixels = examples.pixels.to(self.device, non_blocking=True).float()
        inputs = pixels.sub_(self.mean).div_(self.deviation).permute(0, 3, 1, 2)
        return inputs.contiguous(memory_format=self.layout), examples.targets.to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        """Within, convolutions and matrix products have the recipe's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)
