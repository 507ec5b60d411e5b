"""From a network's name, a folder of photos and a recipe to a run's folder."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.errors import UsageError
from deconvnet.training.data import compute_mean, open_data
from deconvnet.training.loop import fit
from deconvnet.training.recipe import Recipe, read_recipe
from deconvnet.training.run_folder import open_run
from deconvnet.training.setup import check_trainable, prepared, untrained_network


def train(
    network: str,
    data: Path | str,
    out: Path | str,
    recipe: Recipe | Path | str = "paper",
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Train `alexnet2012` or one of the ZFNets from scratch on `data`, a folder with sets `train` and `val`.

    `out` becomes a folder with logs, checkpoints, snapshots and `weights.safetensors`, whose path is returned. If it holds
    the same run unfinished, that goes on, and ends in the same weights as if it had never been stopped (on a CPU to the
    bit, given the same number of threads and processes). Under `torchrun` the batch is shared by all processes. Photos
    are decoded by `workers` threads (default: one per core, at most 8).

    Raises `UsageError` for a network or recipe that does not exist or fit, `DeconvnetError` for data that cannot be used,
    for a run of another kind in `out`, for a disk that is full, and if the loss is NaN or stays at chance.
    """
    check_trainable(network)
    recipe, named = (recipe, "The recipe") if isinstance(recipe, Recipe) else (read_recipe(recipe), f"The recipe {recipe}")
    processes = Processes.here()
    if recipe.batch_size % processes.count:
        raise UsageError(f"A batch of {recipe.batch_size} cannot be shared by {processes.count} processes equally.")
    sets, device, show = open_data(data), torch.device(device), progress and processes.first
    if len(sets.train) < recipe.batch_size:
        raise UsageError(f"There are {len(sets.train)} photos to train on, fewer than a batch of {recipe.batch_size}.")
    net = untrained_network(network, len(sets.classes), recipe, named, seed)
    key = {
        "network": network,
        "recipe": recipe.entries(),
        "seed": seed,
        "photos": {
            name: [len(image_set), image_set.digest] for name, image_set in (("train", sets.train), ("val", sets.val))
        },
    }
    if device.type == "cpu":
        keep_freed_memory()
    with (
        open_run(Path(os.path.realpath(out)), key, processes) as run,
        processes.process_group(device),
        ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool,
    ):
        (finished,) = processes.all_reduce_sum(processes.first and run.weights.exists())
        if not finished:
            mean = run.mean(lambda: compute_mean(sets, pool, show), processes)
            fit(prepared(net, sets.classes, mean, recipe).to(device), sets, recipe, seed, run, processes, pool, show)
    return run.weights
