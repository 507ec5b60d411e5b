"""The training loop (section 3): read it from top to bottom."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deconvnet.distributed import Processes
from deconvnet.models import Network, save_weights
from deconvnet.progress import duration, print_status, progress_bar
from deconvnet.tracing import bfloat16_is_slow, exact_float32
from deconvnet.training.checkpoint import Checkpoints
from deconvnet.training.data import TrainingData, training_batches
from deconvnet.training.divergence import check_loss
from deconvnet.training.filter_renormalisation import max_first_layer_rms, renormalise_filters
from deconvnet.training.logs import open_logs
from deconvnet.training.recipe import Recipe
from deconvnet.training.run_folder import SNAPSHOT_EPOCHS, RunFolder
from deconvnet.training.schedule import learning_rate
from deconvnet.training.signals import defer_signals
from deconvnet.training.stateless_rng import dropout_seed
from deconvnet.training.throughput import Throughput
from deconvnet.training.validation import validate


def fit(
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

        def save() -> None:
            progress.log_sizes, progress.seconds = logs.flush(), time.monotonic() - start
            checkpoints.save(progress)

        while progress.epoch <= recipe.epochs:
            module.train()
            throughput = Throughput()
            batches = training_batches(data, crop, batch_size, seed, progress.epoch, progress.step, processes, pool, device)
            with defer_signals(processes) as stop, closing(batches):
                for batch in throughput.timed(batches):
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
                    error, wait_fraction = progress.errors / progress.images_seen, throughput.wait_fraction
                    images_per_second = throughput.images_per_second * processes.world_size
                    logs.log_step(step, rate, mean_loss, error, images_per_second, wait_fraction)
                    note = f"epoch {progress.epoch}, loss {progress.smoothed_loss:.3f}, error {error:.1%}"
                    advance(batch_size, f"{note}, {wait_fraction:.0%} waiting")
                    if stop.is_pending():
                        save()
                        processes.all_reduce_sum(0)  # no process leaves before the checkpoint is written
                        break
                    if checkpoints.is_due:
                        save()
            save()

            top1, top5 = validate(network, data, recipe, processes, pool)
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
            save()

        if processes.is_first:
            network.weights = _weights_label(data, f"{recipe.epochs} epochs", seed)
            save_weights(network, run.weights)
    print_status(f"Trained {network.name} for {duration(progress.seconds)} in all.", show)


def _sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum; biases do not decay."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


def _weights_label(data: TrainingData, epochs: str, seed: int) -> str:
    """How the weights were made, for `Network.full_name`."""
    return f"{len(data.classes)} classes, {epochs}, seed {seed}"
