"""Train a network from scratch (section 3). `train` prepares a run, `_fit` is the loop: read them from top to bottom."""

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deconvnet.data import Preprocessing, classes_from_folders
from deconvnet.data.transforms import SQUARE_SIZE, central_crop
from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import ARCHITECTURES, AlexNet2012, Network, ZFNet, build_module, save_weights
from deconvnet.models.init import init_he
from deconvnet.progress import duration, print_status, progress_bar
from deconvnet.tracing import bfloat16_is_slow, exact_float32
from deconvnet.training.checkpoint import Checkpoints, TrainingProgress
from deconvnet.training.data import TrainingData, compute_mean, open_data, training_batches, validation_batches
from deconvnet.training.filter_renormalisation import max_first_layer_rms, renormalise_filters
from deconvnet.training.logs import open_logs
from deconvnet.training.recipe import Recipe, read_recipe
from deconvnet.training.run_folder import SNAPSHOT_EPOCHS, RunFolder, open_run
from deconvnet.training.schedule import learning_rate
from deconvnet.training.signals import defer_signals
from deconvnet.training.stateless_rng import dropout_seed, epoch_order, init_seed

#: Names of the networks that can be trained: AlexNet and ZFNet, which the paper trains, and their variants.
TRAINABLE = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.build in (AlexNet2012, ZFNet))


class TrainingDiverged(DeconvnetError):
    """A run whose loss is not finite or stays at chance; resuming it would end the same way."""

    can_resume = False


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
    if len(training_data.train) < recipe.batch_size:
        raise UsageError(
            f"There are {len(training_data.train)} photos to train on, fewer than a batch of {recipe.batch_size}."
        )
    # Before any image is read, which can take long: the recipe's options may be wrong.
    module = untrained_module(network, len(training_data.classes), recipe, recipe_name, seed)
    image_sets = {"train": training_data.train, "val": training_data.val}
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
            untrained = network_to_train(network, module, training_data.classes, mean, recipe).to(device)
            _fit(untrained, training_data, recipe, seed, run, processes, pool, show)
    return run.weights


def _fit(
    network: Network,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    run: RunFolder,
    processes: Processes,
    pool: ThreadPoolExecutor,
    show: bool,
) -> None:
    """Train `network` from the newest checkpoint of `run` to the end of the recipe, and save its weights in the run."""
    module, device, crop, batch_size = network.module, network.device, network.preprocessing.crop, recipe.batch_size
    epoch_steps = len(data.train) // batch_size
    total_steps = recipe.epochs * epoch_steps
    if recipe.channels_last:
        module.to(memory_format=torch.channels_last)
    model: Callable[[Tensor], Tensor] = DistributedDataParallel(module) if processes.world_size > 1 else module
    model = torch.compile(model) if recipe.compile else model
    optimiser = _sgd(module, recipe)
    if recipe.precision == "bfloat16" and bfloat16_is_slow(device):
        print_status(
            'This processor computes bfloat16 much slower than float32: a recipe may say precision = "float32".', show
        )

    # Weights, momentum and progress as they were saved; without a checkpoint this is the first step of epoch 1.
    checkpoints = Checkpoints(run.folder, module, optimiser, processes)
    progress = checkpoints.load()
    start = time.monotonic() - progress.seconds
    steps_done = (progress.epoch - 1) * epoch_steps + progress.step

    with (
        open_logs(run.folder, progress.log_sizes, steps_done, processes, show) as logs,
        progress_bar(f"training {network.name}", total_steps * batch_size, show, steps_done * batch_size) as advance,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        exact_float32(),
    ):

        def save_checkpoint() -> None:
            progress.log_sizes, progress.seconds = logs.flush(), time.monotonic() - start
            checkpoints.save(progress)

        while progress.epoch <= recipe.epochs:
            # Draw the epoch's batches: all training images in an order drawn from (seed, epoch), cut into full batches, of
            # which each process takes its slice. An image's crop and mirroring are drawn from (seed, epoch, image). As no
            # generator keeps a state, a run that resumes at any step draws what an uninterrupted one would.
            order = epoch_order(seed, progress.epoch, len(data.train))[: epoch_steps * batch_size]
            slices = order.reshape(epoch_steps, processes.world_size, -1)[progress.step :, processes.rank]
            batches = training_batches(data, slices, crop, seed, progress.epoch, pool, device)

            module.train()
            epoch_start, wait_seconds, images_before = time.monotonic(), 0.0, progress.images_seen
            # Within, Ctrl-C and SIGTERM are only recorded.
            with defer_signals(processes) as stop, closing(batches):
                wait_start = epoch_start
                for batch in batches:
                    wait_seconds += time.monotonic() - wait_start
                    step = (progress.epoch - 1) * epoch_steps + progress.step
                    rate = learning_rate(recipe, progress.plateau, step, total_steps)
                    for group in optimiser.param_groups:
                        group["lr"] = rate
                    torch.manual_seed(dropout_seed(seed, step, processes.rank))

                    inputs, targets = batch.to_inputs(network.preprocessing, recipe, device)
                    with recipe.autocast(device):
                        logits = model(inputs).float()
                    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    optimiser.step()
                    if recipe.max_filter_rms:
                        renormalise_filters(module, recipe.max_filter_rms)

                    local_errors = (logits.argmax(dim=1) != targets).sum()
                    mean_loss, errors = processes.all_reduce_sum(
                        float(loss.detach()) / processes.world_size, int(local_errors)
                    )
                    check_loss(mean_loss, step, len(data.classes), recipe, progress)
                    progress.step += 1
                    progress.images_seen += batch_size
                    progress.errors += int(errors)
                    progress.loss_sum += mean_loss * batch_size

                    error, seconds = progress.errors / progress.images_seen, time.monotonic() - epoch_start
                    images_per_second = (progress.images_seen - images_before) / seconds
                    logs.log_step(step, rate, mean_loss, error, images_per_second, wait_seconds / seconds)
                    note = f"epoch {progress.epoch}, loss {progress.smoothed_loss:.3f}, error {error:.1%}"
                    advance(batch_size, f"{note}, {wait_seconds / seconds:.0%} waiting")

                    # A signal lets the step in progress finish, saves, and then acts at the end of the `with` block.
                    if stop.is_pending():
                        save_checkpoint()
                        processes.all_reduce_sum(0)  # no process leaves before the checkpoint is written
                        break
                    if checkpoints.is_due:  # about once a minute
                        save_checkpoint()
                    wait_start = time.monotonic()
            save_checkpoint()

            top1, top5 = _validate(network, data, recipe, processes, pool)
            rate = learning_rate(recipe, progress.plateau, progress.epoch * epoch_steps - 1, total_steps)
            loss_mean, error = progress.loss_sum / progress.images_seen, progress.errors / progress.images_seen
            logs.log_epoch(progress.epoch, epoch_steps, rate, loss_mean, error, top1, top5, max_first_layer_rms(module))
            if processes.is_first and progress.epoch in SNAPSHOT_EPOCHS:
                network.weights = _weights_label(data, f"{progress.epoch} of {recipe.epochs} epochs", seed)
                save_weights(network, run.snapshot(progress.epoch), torch.float16)
            progress = replace(
                progress,
                epoch=progress.epoch + 1,
                step=0,
                images_seen=0,
                errors=0,
                loss_sum=0.0,
                plateau=progress.plateau.after_epoch(top1, recipe.patience),
            )
            save_checkpoint()

        if processes.is_first:
            network.weights = _weights_label(data, f"{recipe.epochs} epochs", seed)
            save_weights(network, run.weights)
    print_status(f"Trained {network.name} for {duration(progress.seconds)} in all.", show)


# What a run begins with


def check_trainable(name: str) -> None:
    """Raise `UsageError` for a network that cannot be trained here."""
    if name not in TRAINABLE:
        raise UsageError(f"{name!r} is no network that can be trained from scratch: there are {', '.join(TRAINABLE)}.")


def untrained_module(name: str, class_count: int, recipe: Recipe, recipe_name: str, seed: int) -> nn.Module:
    """The module of one of the `TRAINABLE` networks with `class_count` outputs and initial weights drawn from `seed`.

    `recipe_name` is the recipe's name in errors. Raises `UsageError` for options in the recipe that the network does not
    have.
    """
    if "classes" in recipe.network:
        raise UsageError(f"{recipe_name} says how many classes there are, which the photos say: leave it out of [network].")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed(seed))
        try:
            module = build_module(name, {**recipe.network, "classes": class_count})
        except DeconvnetError as error:
            raise UsageError(f"{recipe_name} has a [network] table that cannot be used. {error}") from None
        if recipe.init == "he":
            init_he(module)
    for submodule in module.modules():
        if isinstance(submodule, nn.Dropout):
            submodule.p = recipe.dropout
    return module


def network_to_train(name: str, module: nn.Module, classes: tuple[str, ...], mean: np.ndarray, recipe: Recipe) -> Network:
    """`module` with the preprocessing it is trained with, and the names of `classes` (class folders).

    `mean` is the training set's mean image, (256, 256, 3) float32, 0 to 255; its centre is subtracted from every crop.
    """
    crop = ARCHITECTURES[name].preprocessing.crop
    centre = torch.from_numpy(central_crop(mean[None], crop)[0].copy()).permute(2, 0, 1)
    preprocessing = Preprocessing(SQUARE_SIZE, crop, 255.0, centre, torch.full((3, 1, 1), recipe.input_std))
    return Network(module, preprocessing, name=name, classes=classes_from_folders(classes))


def _sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum; biases do not decay."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


# How it goes


def check_loss(loss: float, step: int, class_count: int, recipe: Recipe, progress: TrainingProgress) -> None:
    """Record a step's loss in `progress`.

    Raises `TrainingDiverged`, with advice, if the loss is not finite, or has been at chance for `recipe.chance_patience`
    steps: its moving average over about 50 steps is not 1 % below log(classes), the loss of a uniform prediction.
    """
    remedy = f"with a learning_rate below {recipe.learning_rate:g}"
    if recipe.init == "normal":
        remedy += ', or with initial = "he" and deviation = 20.0'
    advice = f"try a recipe {remedy}, in another --out"
    if not math.isfinite(loss):
        raise TrainingDiverged(f"The loss of step {step} is {loss}, so training has diverged: {advice}.")
    chance = math.log(class_count)
    progress.smoothed_loss = loss if step == 0 else 0.98 * progress.smoothed_loss + 0.02 * loss
    progress.steps_at_chance = progress.steps_at_chance + 1 if progress.smoothed_loss > 0.99 * chance else 0
    if progress.steps_at_chance >= recipe.chance_patience:
        raise TrainingDiverged(
            f"The loss has stayed at {progress.smoothed_loss:.3f} for {progress.steps_at_chance} steps, no better than "
            f"chance ({chance:.3f}): try another --seed, or {advice.removeprefix('try ')}."
        )


@torch.inference_mode()
def _validate(
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


def _weights_label(data: TrainingData, epochs: str, seed: int) -> str:
    """How the weights were made, for `Network.full_name`."""
    return f"{len(data.classes)} classes, {epochs}, seed {seed}"
