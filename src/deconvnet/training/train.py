"""Train a network from its name, a folder of images and a recipe."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.errors import UsageError
from deconvnet.training.data import compute_mean, open_data
from deconvnet.training.initial_network import check_trainable, untrained_network, with_preprocessing
from deconvnet.training.loop import fit
from deconvnet.training.recipe import Recipe, read_recipe
from deconvnet.training.run_folder import open_run


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
    """Train a network from scratch (section 3): `alexnet2012` or one of the ZFNets, on a folder with `train` and `val`.

    `out` becomes a folder with logs, checkpoints, snapshots and `weights.safetensors`, whose path is returned. If it holds
    the same run unfinished, that is resumed and ends in the same weights as an uninterrupted one (bit by bit on a CPU,
    given the same number of threads and processes). Under `torchrun` each batch is divided among all processes. Images are
    decoded by `workers` threads (default: one per core, at most 8).

    Raises `UsageError` for a network or recipe that does not exist or fit, `DeconvnetError` for data that cannot be used,
    for another run in `out`, for a full disk, and if the loss is NaN or stays at chance.
    """
    check_trainable(network)
    recipe, recipe_name = (
        (recipe, "The recipe") if isinstance(recipe, Recipe) else (read_recipe(recipe), f"The recipe {recipe}")
    )
    processes = Processes.from_environment()
    if recipe.batch_size % processes.world_size:
        raise UsageError(f"A batch of {recipe.batch_size} cannot be shared by {processes.world_size} processes equally.")
    training_data, device, show = open_data(data), torch.device(device), progress and processes.is_first
    image_sets = {"train": training_data.train, "val": training_data.val}
    if len(training_data.train) < recipe.batch_size:
        raise UsageError(
            f"There are {len(training_data.train)} photos to train on, fewer than a batch of {recipe.batch_size}."
        )
    untrained = untrained_network(network, len(training_data.classes), recipe, recipe_name, seed)
    key = {
        "network": network,
        "recipe": recipe.entries(),
        "seed": seed,
        "photos": {name: [len(image_set), image_set.digest] for name, image_set in image_sets.items()},
    }
    if device.type == "cpu":
        keep_freed_memory()
    with (
        open_run(Path(os.path.realpath(out)), key, processes) as run,
        processes.process_group(device),
        ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool,
    ):
        (is_finished,) = processes.all_reduce_sum(processes.is_first and run.weights.exists())
        if not is_finished:
            if processes.is_first and not run.mean.exists():
                run.save_mean(compute_mean(training_data, pool, show))
            mean = run.load_mean(processes)
            prepared = with_preprocessing(untrained, training_data.classes, mean, recipe).to(device)
            fit(prepared, training_data, recipe, seed, run, processes, pool, show)
    return run.weights
