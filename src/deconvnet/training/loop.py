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
from deconvnet.models import Network
from deconvnet.models.weights import save_weights
from deconvnet.progress import bar, duration, say
from deconvnet.tracing import bfloat16_is_slow, exact_float32
from deconvnet.training.checkpoint import Checkpoints
from deconvnet.training.data import TrainingData, training_batches
from deconvnet.training.divergence import check_loss
from deconvnet.training.filter_renormalisation import first_layer_rms, renormalise
from deconvnet.training.logs import open_logs
from deconvnet.training.normalise import Normalise
from deconvnet.training.recipe import Recipe
from deconvnet.training.rng import dropout_seed
from deconvnet.training.run_folder import SNAPSHOTS, Run
from deconvnet.training.schedule import learning_rate
from deconvnet.training.signals import stop_asked
from deconvnet.training.throughput import Throughput
from deconvnet.training.validation import validate


def fit(
    net: Network,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    run: Run,
    processes: Processes,
    pool: ThreadPoolExecutor,
    show: bool,
) -> None:
    """Train `net`, from where `run` is to the end of the recipe, and leave its weights in the run's folder."""
    module, device, crop, batch = net.module, net.device, net.preprocessing.crop, recipe.batch_size
    steps = len(data.train) // batch
    total = recipe.epochs * steps
    if recipe.channels_last:
        module.to(memory_format=torch.channels_last)
    model: Callable[[Tensor], Tensor] = DistributedDataParallel(module) if processes.count > 1 else module
    model = torch.compile(model) if recipe.compile else model
    optimiser = _momentum(module, recipe)
    normalise = Normalise(net.preprocessing, recipe, device)
    if recipe.precision == "bfloat16" and bfloat16_is_slow(device):
        say('This processor computes bfloat16 much slower than float32: a recipe may say precision = "float32".', show)

    checkpoints = Checkpoints(run.folder, module, optimiser, processes)
    at = checkpoints.load()
    started = time.monotonic() - at.seconds
    done = (at.epoch - 1) * steps + at.step

    with (
        open_logs(run.folder, at.sizes, done, processes, show) as logs,
        bar(f"training {net.name}", total * batch, show, done * batch) as advance,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        exact_float32(),
    ):

        def save() -> None:
            at.sizes, at.seconds = logs.sizes(), time.monotonic() - started
            checkpoints.save(at)

        while at.epoch <= recipe.epochs:
            module.train()
            pace = Throughput()
            batches = training_batches(data, crop, batch, seed, at.epoch, at.step, processes, pool, device)
            with stop_asked(processes) as stop, closing(batches):
                for examples in pace.timed(batches):
                    step = (at.epoch - 1) * steps + at.step
                    rate = learning_rate(recipe, at.plateau, step, total)
                    for group in optimiser.param_groups:
                        group["lr"] = rate
                    torch.manual_seed(dropout_seed(seed, step, processes.rank))

                    inputs, targets = normalise(examples)
                    with normalise.autocast():
                        logits = model(inputs).float()
                    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    optimiser.step()
                    if recipe.largest_rms:
                        renormalise(module, recipe.largest_rms)

                    own_wrong = (logits.argmax(dim=1) != targets).sum()
                    mean_loss, wrong = processes.all_reduce_sum(float(loss.detach()) / processes.count, int(own_wrong))
                    check_loss(mean_loss, step, len(data.classes), recipe, at)
                    at.step += 1
                    at.seen += batch
                    at.wrong += int(wrong)
                    at.loss += mean_loss * batch
                    error = at.wrong / at.seen
                    logs.step(step, rate, mean_loss, error, pace.photos_per_second * processes.count, pace.waiting)
                    advance(batch, f"epoch {at.epoch}, loss {at.smooth:.3f}, error {error:.1%}, {pace.waiting:.0%} waiting")
                    if stop.asked():
                        save()
                        processes.all_reduce_sum(0)  # none leaves before it is saved
                        break
                    if checkpoints.due:
                        save()
            save()

            top1, top5 = validate(module, data, crop, batch, normalise, processes, pool)
            rate = learning_rate(recipe, at.plateau, at.epoch * steps - 1, total)
            logs.epoch(at.epoch, steps, rate, at.loss / at.seen, at.wrong / at.seen, top1, top5, first_layer_rms(module))
            if processes.first and at.epoch in SNAPSHOTS:
                net.weights = _trained(data, f"{at.epoch} of {recipe.epochs} epochs", seed)
                save_weights(net, run.snapshot(at.epoch), torch.float16)
            plateau = at.plateau.after(top1, recipe.patience)
            at = replace(at, epoch=at.epoch + 1, step=0, seen=0, wrong=0, loss=0.0, plateau=plateau)
            save()

        if processes.first:
            net.weights = _trained(data, f"{recipe.epochs} epochs", seed)
            save_weights(net, run.weights)
    say(f"Trained {net.name} for {duration(at.seconds)} in all.", show)


def _momentum(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum; biases do not decay."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


def _trained(data: TrainingData, epochs: str, seed: int) -> str:
    """Where weights are from, in a few words."""
    return f"{len(data.classes)} classes, {epochs}, seed {seed}"
