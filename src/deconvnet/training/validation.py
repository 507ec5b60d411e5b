"""How good a network is while it is trained."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from deconvnet.distributed import Processes
from deconvnet.training.data import TrainingData, validation_batches
from deconvnet.training.normalise import Normalise


@torch.inference_mode()
def validate(
    module: nn.Module,
    data: TrainingData,
    crop: int,
    batch_size: int,
    normalise: Normalise,
    processes: Processes,
    pool: ThreadPoolExecutor,
) -> tuple[float, float]:
    """Top-1 and top-5 error, 0 to 1, of one central view of each validation photo. Leaves the module in eval mode."""
    module.eval()
    wrong = torch.zeros(2, dtype=torch.int64, device=normalise.device)
    for examples in validation_batches(data, crop, batch_size, processes, pool):
        inputs, targets = normalise(examples)
        with normalise.autocast():
            logits = module(inputs)
        wrong += _wrong(logits, targets)
    top1, top5 = processes.all_reduce_sum(*wrong.tolist())
    return top1 / len(data.val), top5 / len(data.val)


def _wrong(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of (n, classes) have their target not first, and not among the first five: (2,) int64."""
    best = logits.topk(min(5, logits.shape[1])).indices
    hit = best == targets[:, None]
    return torch.stack([(~hit[:, 0]).sum(), (~hit.any(dim=1)).sum()])
