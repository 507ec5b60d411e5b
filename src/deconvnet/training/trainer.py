"""Train a network from scratch (Zeiler & Fergus, section 3): `train` prepares a run, `_fit` is the training loop."""

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deconvnet.data import Preprocessing, classes_from_folders
from deconvnet.data.transforms import SQUARE_SIZE, central_crop
from deconvnet.distributed import Processes, local_device
from deconvnet.environment import core_count, keep_freed_memory
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import ARCHITECTURES, AlexNet2012, Network, ZFNet, build_module, save_weights
from deconvnet.models.init import init_he
from deconvnet.progress import duration, print_status, progress_bar
from deconvnet.tracing import bfloat16_is_slow
from deconvnet.training.checkpoint import Checkpoints, TrainingProgress
from deconvnet.training.data import TrainingData, compute_mean, open_data, training_batches, validation_batches
from deconvnet.training.filter_renormalisation import max_first_layer_rms, renormalise_filters
from deconvnet.training.logs import open_logs
from deconvnet.training.recipe import Recipe, read_recipe
from deconvnet.training.run_folder import SNAPSHOT_EPOCHS, RunFolder, open_run
from deconvnet.training.schedule import learning_rate
from deconvnet.training.signals import StopRequest, defer_signals
from deconvnet.training.stateless_rng import dropout_seed, epoch_order, init_seed

#: Names of the networks that can be trained: AlexNet and ZFNet, which the paper trains, and their variants.
TRAINABLE = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.build in (AlexNet2012, ZFNet))


#: On a GPU the results of so many steps are read together, because each reading waits for it; a CPU's of each step at once.
_STEPS_PER_READING = 10


class TrainingDiverged(DeconvnetError):
    """The loss of a run is not finite, or has stayed at chance. Resumed, the same run would end in the same way."""

    can_resume = False


def train(
    network: str,
    data: Path | str,
    out: Path | str,
    recipe: Recipe | Path | str = "paper",
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Train a network from scratch: `alexnet2012` or one of the ZFNets, on the folders `train` and `val` in `data`.

    `out` becomes a folder with logs, checkpoints, snapshots and `weights.safetensors`, whose path is returned. If it holds
    the same run unfinished, that is resumed and ends in the same weights as an uninterrupted one (bit for bit on a CPU,
    given the same number of threads and processes); a finished run is left as it is. Ctrl-C or SIGTERM while training
    finishes the step and saves a checkpoint, from which the same call resumes. `seed` decides initial weights, order and
    crops of the images, and dropout. `device` None is a GPU if there is one, else the CPU. Under `torchrun` each batch is
    divided among all processes. Images are decoded by `workers` threads in each process (default: one per core).

    Raises `UsageError` for an unknown network, an unknown recipe, and a recipe that does not suit the network or the number
    of images and processes; `DeconvnetError` for data that cannot be used, for another run in `out`, for a full disk, and
    if training diverges.
    """
    _check_trainable(network)
    recipe_name = "The recipe" if isinstance(recipe, Recipe) else f"The recipe {recipe}"
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    processes = Processes.from_environment()
    show_progress = progress and processes.is_first
    if recipe.batch_size % processes.world_size:
        raise UsageError(f"A batch of {recipe.batch_size} cannot be shared by {processes.world_size} processes equally.")
    training_data, device = open_data(data), local_device(device)
    if len(training_data.train) < recipe.batch_size:
        raise UsageError(
            f"There are {len(training_data.train)} photos to train on, fewer than a batch of {recipe.batch_size}."
        )
    # Built before any image is read, which can take long, so that wrong options in the recipe are refused at once.
    module = untrained_module(network, len(training_data.classes), recipe, recipe_name, seed)
    image_sets = {"train": training_data.train, "val": training_data.val}
    key = {  # only a run of which all this is the same is resumed
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
        ThreadPoolExecutor(workers or core_count()) as pool,
    ):
        # All processes do what the first one finds.
        (is_finished,) = processes.all_reduce_sum(processes.is_first and run.weights.exists())
        if not is_finished:
            if processes.is_first and not run.mean.exists():
                run.save_mean(compute_mean(training_data, pool, show_progress))
            mean = run.load_mean(processes)
            untrained = network_to_train(network, module, training_data.classes, mean, recipe).to(device)
            _fit(untrained, training_data, recipe, seed, run, processes, pool, show_progress)
    return run.weights


def _fit(
    network: Network,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    run: RunFolder,
    processes: Processes,
    pool: ThreadPoolExecutor,
    show_progress: bool,
) -> None:
    """Train `network` from the newest checkpoint of `run` to the end of the recipe, and save its weights in the run.

    Checkpoints are written by the first process, atomically: about once a minute, after the last step of an epoch, after its
    validation, and at a signal. A first Ctrl-C or SIGTERM (in any process) while the steps of an epoch run is only recorded:
    training stops when results are next read (after each step, on a GPU after ten) and a checkpoint is written, then the
    signal is raised again for the handler that was there before, by default Python's, so that a `KeyboardInterrupt` is
    raised or the process ends. A second one ends the process at once. Outside of the steps every signal acts at once, and
    nothing but a validation can be lost, which a resumed run repeats.
    """
    module, device, preprocessing = network.module, network.device, network.preprocessing.with_views("training")
    steps_per_epoch = len(data.train) // recipe.batch_size
    total_steps = recipe.epochs * steps_per_epoch
    module.to(memory_format=recipe.memory_format(device))
    model: Callable[[Tensor], Tensor] = DistributedDataParallel(module) if processes.world_size > 1 else module
    model = torch.compile(model) if recipe.compile else model
    optimiser = _sgd(module, recipe)
    if recipe.precision == "bfloat16" and bfloat16_is_slow(device):
        print_status(
            'This processor computes bfloat16 much slower than float32: precision = "float32" in a recipe avoids that.',
            show_progress,
        )

    # Weights, momentum and progress as they were saved; without a checkpoint, progress is at the start of epoch 1.
    checkpoints = Checkpoints(run.folder, module, optimiser, processes)
    progress = checkpoints.load()
    start = time.monotonic() - progress.seconds
    steps_done = (progress.epoch - 1) * steps_per_epoch + progress.step
    images_done, images_in_all = steps_done * recipe.batch_size, total_steps * recipe.batch_size

    with (
        # What was logged after the checkpoint is cut off: those steps are done again.
        open_logs(run.folder, progress.log_sizes, steps_done, processes, show_progress) as logs,
        progress_bar(f"training {network.name}", images_in_all, show_progress, images_done) as advance,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),  # leaves the caller's generators alone
        recipe.float32_precision(device),  # whatever the caller's settings are
    ):

        def save_checkpoint() -> None:
            progress.log_sizes, progress.seconds = logs.flush(), time.monotonic() - start
            checkpoints.save(progress)

        while progress.epoch <= recipe.epochs:
            # A permutation of the training images is drawn from (seed, epoch) and cut into full batches; what is left over
            # is not used in this epoch. Each process takes an equal slice of every batch. Images are squares of 256 pixels.
            # Each gives one crop an epoch, at any position and perhaps mirrored, drawn from (seed, epoch, image). As no
            # generator keeps a state, a resumed run sees the same batches.
            order = epoch_order(seed, progress.epoch, len(data.train))[: steps_per_epoch * recipe.batch_size]
            slices = order.reshape(steps_per_epoch, processes.world_size, -1)  # image indices by step and process
            remaining = slices[progress.step :, processes.rank]
            batches = training_batches(data, remaining, preprocessing.crop, seed, progress.epoch, pool, device)

            module.train()
            first_step = (progress.epoch - 1) * steps_per_epoch + progress.step  # of the whole run, from 0
            last_step = progress.epoch * steps_per_epoch - 1
            unread: list[Tensor] = []  # loss and number of errors of steps that the device may not have finished
            loop_start, wait_seconds = time.monotonic(), 0.0
            # A first Ctrl-C or SIGTERM is only recorded, and raised again at the end of this block.
            with defer_signals(processes) as stop, closing(batches):
                wait_start = loop_start
                for step, batch in enumerate(batches, first_step):
                    wait_seconds += time.monotonic() - wait_start
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate(recipe, progress.plateau, step, total_steps)
                    _seed(device, dropout_seed(seed, step, processes.rank))

                    inputs, targets = batch.to_inputs(preprocessing, recipe, device)
                    with recipe.autocast(device):
                        logits = model(inputs).float()
                    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    optimiser.step()
                    if recipe.max_filter_rms:  # in all convolutions, filters of a larger RMS are scaled down to it
                        renormalise_filters(module, recipe.max_filter_rms)

                    own_errors = (logits.argmax(dim=1) != targets).sum()
                    unread.append(torch.stack([loss.detach(), own_errors.float()]))
                    if device.type != "cpu" and len(unread) < _STEPS_PER_READING and step < last_step:
                        wait_start = time.monotonic()
                        continue
                    results = _read_results(unread, stop)
                    seconds, images = time.monotonic() - loop_start, (step - first_step + 1) * recipe.batch_size
                    for number, (step_loss, errors) in enumerate(results, step + 1 - len(results)):
                        record_loss(step_loss, number, len(data.classes), recipe, progress)  # raises TrainingDiverged
                        progress.step += 1
                        progress.images_seen += recipe.batch_size
                        progress.errors += int(errors)
                        progress.loss_sum += step_loss * recipe.batch_size
                        error = progress.errors / progress.images_seen
                        rate = learning_rate(recipe, progress.plateau, number, total_steps)
                        logs.log_step(number, rate, step_loss, error, images / seconds, wait_seconds / seconds)
                    note = f"epoch {progress.epoch}, loss {progress.smoothed_loss:.3f}, error {error:.1%}"
                    advance(len(results) * recipe.batch_size, f"{note}, {wait_seconds / seconds:.0%} waiting")

                    if stop.is_agreed:  # a signal came, in any of the processes, before the results were read
                        break
                    if checkpoints.is_due:  # about once a minute
                        save_checkpoint()
                    wait_start = time.monotonic()
                save_checkpoint()  # after a signal, or after the epoch's last batch, before the validation
                stop.all_reduce_sum()  # so that all processes stop after this block; waits for the checkpoint

            # After a whole epoch only: after a signal, the block above has raised.
            top1, top5 = _validate(network, data, recipe, processes, pool)
            rate = learning_rate(recipe, progress.plateau, last_step, total_steps)
            epoch_loss, error = progress.loss_sum / progress.images_seen, progress.errors / progress.images_seen
            max_rms = max_first_layer_rms(module)
            logs.log_epoch(progress.epoch, steps_per_epoch, rate, epoch_loss, error, top1, top5, max_rms)
            if processes.is_first and progress.epoch in SNAPSHOT_EPOCHS:  # `evolve` draws Fig. 4 of them
                network.weights = _weights_label(data, f"{progress.epoch} of {recipe.epochs} epochs", seed)
                save_weights(network, run.snapshot(progress.epoch), torch.float16)
            progress = progress.next_epoch(progress.plateau.after_epoch(top1, recipe.patience))
            save_checkpoint()

        if processes.is_first:
            network.weights = _weights_label(data, f"{recipe.epochs} epochs", seed)
            save_weights(network, run.weights)
    print_status(f"Trained {network.name} for {duration(progress.seconds)} in all.", show_progress)


# Set-up


def _check_trainable(name: str) -> None:
    """Raise `UsageError` for a network that cannot be trained here."""
    if name not in TRAINABLE:
        raise UsageError(f"{name!r} cannot be trained from scratch: pass one of {', '.join(TRAINABLE)}.")


def untrained_module(name: str, class_count: int, recipe: Recipe, recipe_name: str, seed: int) -> nn.Module:
    """The module of one of the `TRAINABLE` networks with `class_count` outputs and initial weights drawn from `seed`.

    `recipe_name` is the recipe's name in errors. Raises `UsageError` for options in the recipe that the network does not
    have, or with which its layers do not fit together.
    """
    if "classes" in recipe.network:
        raise UsageError(f"{recipe_name} sets `classes`, which follows from the photos: leave it out of [network].")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(init_seed(seed))  # torch.manual_seed would seed GPUs too
        try:
            module = build_module(name, {**recipe.network, "classes": class_count})
            Network(module, ARCHITECTURES[name].preprocessing, name=name).layers  # traced: they must fit  # noqa: B018
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
    std = torch.full((3, 1, 1), recipe.input_std)
    preprocessing = Preprocessing(resize=SQUARE_SIZE, crop=crop, scale=255.0, mean=centre, std=std)
    return Network(module, preprocessing, name=name, classes=classes_from_folders(classes))


def _sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum, and weight decay of all but the biases."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


def _seed(device: torch.device, seed: int) -> None:
    """Seed the generators of the CPU and of `device`, and those of no other GPU, which `torch.manual_seed` would too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


# Loss, validation and errors


def _read_results(unread: list[Tensor], stop: StopRequest) -> list[tuple[float, float]]:
    """Loss, mean over processes, and number of errors, sum over processes, of each step in `unread`, which is emptied.

    Waits for the device once, and for the other processes once: the same exchange says whether to stop.
    """
    losses, errors = torch.stack(unread, dim=1).tolist()
    sums = stop.all_reduce_sum(*(loss / stop.processes.world_size for loss in losses), *errors)
    unread.clear()
    return list(zip(sums[: len(losses)], sums[len(losses) :], strict=True))


def record_loss(loss: float, step: int, class_count: int, recipe: Recipe, progress: TrainingProgress) -> None:
    """Record a step's loss in `progress`.

    Raises `TrainingDiverged`, with advice, if the loss is not finite, or if its moving average over about 50 steps has been
    above 99 % of log(classes), the loss of a uniform prediction, in each of the last `recipe.chance_patience` steps.
    """
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"The loss of step {step} is {loss}, so training has diverged: try {_other_recipe(recipe)}, in another folder."
        )
    chance = math.log(class_count)
    progress.smoothed_loss = loss if step == 0 else 0.98 * progress.smoothed_loss + 0.02 * loss
    progress.steps_at_chance = progress.steps_at_chance + 1 if progress.smoothed_loss > 0.99 * chance else 0
    if progress.steps_at_chance >= recipe.chance_patience:
        raise TrainingDiverged(
            f"The loss has stayed at {progress.smoothed_loss:.3f} for {progress.steps_at_chance} steps, no better than "
            f"chance ({chance:.3f}): try another seed, or {_other_recipe(recipe)}, in another folder."
        )


def _other_recipe(recipe: Recipe) -> str:
    """What may work where `recipe` does not, in the names of a recipe file."""
    words = f"a recipe with a learning_rate below {recipe.learning_rate:g}"
    return f'{words}, or with initial = "he" and deviation = 20.0' if recipe.init == "normal" else words


@torch.no_grad()
def _validate(
    network: Network, data: TrainingData, recipe: Recipe, processes: Processes, pool: ThreadPoolExecutor
) -> tuple[float, float]:
    """Top-1 and top-5 error, 0 to 1, on the central crop of each validation image. Leaves the module in eval mode."""
    network.module.eval()
    preprocessing, device = network.preprocessing.with_views("training"), network.device
    errors = torch.zeros(2, dtype=torch.int64, device=device)
    for batch in validation_batches(data, preprocessing.crop, recipe.batch_size, processes, pool, device):
        inputs, targets = batch.to_inputs(preprocessing, recipe, device)
        with recipe.autocast(device):
            logits = network.module(inputs)
        errors += topk_errors(logits, targets)
    top1_errors, top5_errors = processes.all_reduce_sum(*errors.tolist())
    return top1_errors / len(data.val), top5_errors / len(data.val)


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
    """How the weights were made: `Network.weights`."""
    return f"{len(data.classes)} classes, {epochs}, seed {seed}"
