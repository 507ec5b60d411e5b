"""The training loop (section 3): read it from top to bottom."""

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.images import named_classes
from deconvnet.images.views import SQUARE, central_crop
from deconvnet.memory import keep_freed_memory
from deconvnet.networks import Network, Preprocessing
from deconvnet.networks.catalogue import untrained
from deconvnet.networks.initial import initialise_he
from deconvnet.networks.weights import save_weights
from deconvnet.processes import Processes
from deconvnet.progress import bar
from deconvnet.training.annealing import learning_rate
from deconvnet.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from deconvnet.training.data import Examples, TrainingData, mean_image, open_data, training_batches, validation_batches
from deconvnet.training.order import dropout_seed, numbers
from deconvnet.training.recipe import Recipe, read_recipe
from deconvnet.training.renormalise import renormalise
from deconvnet.training.run import SNAPSHOTS, Run, open_run
from deconvnet.training.stopping import stop_asked

#: Seconds between two checkpoints; more where a checkpoint takes more than a hundredth of that.
SAVE_EVERY = 60.0


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
    bit, given the same number of threads and processes). Under `torchrun` the batch is shared by all processes.

    Raises `UsageError` for a network or recipe that does not exist or fit, `DeconvnetError` for data that cannot be used,
    for a run of another kind in `out`, and if the loss is NaN or stays at chance.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    processes = Processes.here()
    if recipe.batch_size % processes.count:
        raise UsageError(f"A batch of {recipe.batch_size} cannot be shared by {processes.count} processes equally.")
    sets, device = open_data(data), torch.device(device)
    steps = len(sets.train) // recipe.batch_size
    if steps == 0:
        raise UsageError(f"There are {len(sets.train)} photos to train on, fewer than a batch of {recipe.batch_size}.")
    key = {
        "network": network,
        "recipe": recipe.entries(),
        "seed": seed,
        "photos": {name: [len(photos), photos.digest] for name, photos in (("train", sets.train), ("val", sets.val))},
    }
    if device.type == "cpu":
        keep_freed_memory()
    with (
        open_run(Path(os.path.realpath(out)), key, processes) as run,
        _group(processes, device),
        ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool,
    ):
        if not run.weights.exists():
            net = _fresh(network, sets, recipe, seed, pool, progress and processes.first).to(device)
            _train(net, sets, recipe, seed, steps, run, processes, pool, progress and processes.first)
    return run.weights


def _train(
    net: Network,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    steps: int,
    run: Run,
    processes: Processes,
    pool: ThreadPoolExecutor,
    show: bool,
) -> None:
    module, device = net.module, net.device
    if recipe.channels_last:
        module.to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = recipe.dropout
    model: Callable[[Tensor], Tensor] = DistributedDataParallel(module) if processes.count > 1 else module
    model = torch.compile(model) if recipe.compile else model
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}]
    optimiser = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    at = load_checkpoint(run.folder, module, optimiser, processes)
    if processes.first:
        run.open_logs(at.sizes)
    normalise = _Normalise(net.preprocessing, recipe, device)
    chance = math.log(len(data.classes))
    crop, batch = net.preprocessing.crop, recipe.batch_size
    total, done = recipe.epochs * steps, (at.epoch - 1) * steps + at.step
    started, waiting, saved = time.monotonic(), 0.0, time.monotonic()
    before = at.seconds

    def save() -> None:
        nonlocal saved
        at.seconds = before + time.monotonic() - started
        if processes.first:
            at.sizes = run.sizes()
            save_checkpoint(run.folder, module, optimiser, at)
        saved = time.monotonic()

    with bar(f"training {net.name}", total * batch, show, done * batch) as advance:
        while at.epoch <= recipe.epochs:
            module.train()
            batches = training_batches(data, crop, batch, seed, at.epoch, at.step, processes, pool)
            with stop_asked(processes) as stop:
                while at.step < steps:
                    asked = time.monotonic()
                    examples = next(batches)
                    waiting += time.monotonic() - asked

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

                    wrong = (logits.argmax(dim=1) != targets).sum()
                    mean_loss, all_wrong = _over_processes(loss.detach() / processes.count, wrong, processes)
                    _check(mean_loss, chance, step, recipe, at)
                    at.step += 1
                    at.seen += batch
                    at.wrong += int(all_wrong)
                    at.loss += mean_loss * batch
                    if processes.first:
                        run.log("steps.csv", step, rate, mean_loss)
                    share = waiting / (time.monotonic() - started)
                    advance(
                        batch, f"epoch {at.epoch}, loss {at.smooth:.3f}, error {at.wrong / at.seen:.1%}, {share:.0%} waiting"
                    )
                    if stop.asked() or time.monotonic() - saved > SAVE_EVERY:
                        save()
                    if stop.number:
                        break
            if at.step < steps:
                raise DeconvnetError("Training was stopped.")  # unless the signal has ended the program already
            save()
            top1, top5 = _validate(module, data, crop, batch, normalise, processes, pool)
            if processes.first:
                rate = learning_rate(recipe, at.plateau, at.epoch * steps - 1, total)
                run.log("log.csv", at.epoch, rate, at.loss / at.seen, at.wrong / at.seen, top1, top5)
                if at.epoch in SNAPSHOTS:
                    save_weights(net, run.snapshot(at.epoch), torch.float16)
            at = replace(
                at, epoch=at.epoch + 1, step=0, seen=0, wrong=0, loss=0.0, plateau=at.plateau.after(top1, recipe.patience)
            )
            save()
    if processes.first:
        save_weights(net, run.weights)


class _Normalise:
    """Examples as a network takes them, on its device."""

    def __init__(self, preprocessing: Preprocessing, recipe: Recipe, device: torch.device) -> None:
        self.mean = preprocessing.mean.permute(1, 2, 0).contiguous().to(device)
        self.deviation, self.device = recipe.deviation, device
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.half = recipe.precision == "bfloat16"

    def __call__(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Inputs (n, 3, crop, crop) and targets (n,)."""
        pixels = examples.pixels.to(self.device, non_blocking=True).float()
        inputs = pixels.sub_(self.mean).div_(self.deviation).permute(0, 3, 1, 2)
        return inputs.contiguous(memory_format=self.layout), examples.targets.to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)


def _over_processes(loss: Tensor, wrong: Tensor, processes: Processes) -> tuple[float, int]:
    """The sums of both over all processes."""
    if processes.count > 1:
        both = torch.stack([loss.double(), wrong.double()])
        dist.all_reduce(both)
        loss, wrong = both
    return float(loss), int(wrong)


def _check(loss: float, chance: float, step: int, recipe: Recipe, at: Progress) -> None:
    """Raise `DeconvnetError`, with advice, where going on is no use: NaN, or a loss that stays at chance."""
    advice = f'take a learning_rate below {recipe.learning_rate:g}, or initial = "he" with deviation = 58.0, in a recipe'
    if not math.isfinite(loss):
        raise DeconvnetError(f"The loss of step {step} is {loss}: training has diverged, so {advice}.")
    at.smooth = loss if step == 0 else 0.98 * at.smooth + 0.02 * loss
    at.at_chance = at.at_chance + 1 if at.smooth > 0.99 * chance else 0
    if at.at_chance >= recipe.steps_at_chance:
        raise DeconvnetError(
            f"The loss has stayed at {at.smooth:.3f} for {at.at_chance} steps, no better than chance ({chance:.3f}): try "
            f"another --seed, or {advice}."
        )


@torch.inference_mode()
def _validate(
    module: nn.Module,
    data: TrainingData,
    crop: int,
    batch_size: int,
    normalise: _Normalise,
    processes: Processes,
    pool: ThreadPoolExecutor,
) -> tuple[float, float]:
    """Top-1 and top-5 error of one central view of each validation photo."""
    module.eval()
    wrong = torch.zeros(2, dtype=torch.int64, device=normalise.device)
    for examples in validation_batches(data, crop, batch_size, processes, pool):
        inputs, targets = normalise(examples)
        with normalise.autocast():
            best = module(inputs).topk(min(5, len(data.classes))).indices
        hit = best == targets[:, None]
        wrong += torch.stack([(~hit[:, 0]).sum(), (~hit.any(dim=1)).sum()])
    if processes.count > 1:
        dist.all_reduce(wrong)
    top1, top5 = (wrong / len(data.val)).tolist()
    return top1, top5


@contextmanager
def _group(processes: Processes, device: torch.device) -> Iterator[None]:
    """The processes that share a batch, while they do."""
    if processes.count == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _fresh(name: str, data: TrainingData, recipe: Recipe, seed: int, pool: ThreadPoolExecutor, show: bool) -> Network:
    """The network as training starts from it."""
    classes = named_classes(data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numbers(seed, 0)[0] >> 1))
        net = untrained(name, {**recipe.network, "classes": len(classes)})
        if recipe.initial == "he":
            initialise_he(net.module)
    crop = net.preprocessing.crop
    mean = torch.from_numpy(central_crop(mean_image(data.train, pool, show)[None], crop)[0].copy()).permute(2, 0, 1)
    preprocessing = Preprocessing(SQUARE, crop, 255.0, mean, torch.full((3, 1, 1), recipe.deviation))
    return Network(
        net.module, preprocessing, name=name, weights=f"trained, seed {seed}", layer_names=list(net.layers), classes=classes
    )
