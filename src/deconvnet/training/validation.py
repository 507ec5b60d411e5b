"""Top-1 and top-5 error, and the validation error of a network in training."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from deconvnet.distributed import Processes
from deconvnet.models import Network
from deconvnet.training.data import TrainingData, validation_batches
from deconvnet.training.recipe import Recipe


@torch.inference_mode()
def validate(
    network: Network, data: TrainingData, recipe: Recipe, processes: Processes, pool: ThreadPoolExecutor
) -> tuple[float, float]:
    """Top-1 and top-5 error, 0 to 1, on the central view of each validation image. Leaves the module in eval mode."""
    network.module.eval()
    preprocessing, device = network.preprocessing, network.device
    errors = torch.zeros(2, dtype=torch.int64, device=device)
    for batch in validation_batches(data, preprocessing.crop, recipe.batch_size, processes, pool):
        inputs, targets = batch.to_inputs(preprocessing, recipe, device)
        with recipe.autocast(device):
            logits = network.module(inputs)
        errors += topk_errors(logits, targets)
    top1, top5 = processes.all_reduce_sum(*errors.tolist())
    return top1 / len(data.val), top5 / len(data.val)


def topk_errors(scores: Tensor, targets: Tensor) -> Tensor:
    """The number of top-1 and of top-5 errors, (2,) int64 on the device of `scores`.

    `scores` are logits or probabilities (N, classes), `targets` class indices (N,) int64 on the same device. Among equal
    scores the class with the lower index ranks higher (`torch.topk` leaves the order open). NaN ranks above every number,
    and a target whose score is NaN ranks last.
    """
    target_scores = scores.gather(1, targets[:, None])
    comes_after = torch.arange(scores.shape[1], device=scores.device) > targets[:, None]
    ranked_lower = (scores < target_scores) | ((scores == target_scores) & comes_after)
    rank = scores.shape[1] - 1 - ranked_lower.sum(dim=1)
    return torch.stack([(rank >= 1).sum(), (rank >= 5).sum()])
