"""How fast a training step is, and how long the paper's 70 epochs of ImageNet would then take.

    python benchmarks/training.py [--device cuda] [--networks zfnet] [--recipes paper,fast] [--steps 5]

Complete steps of full-size networks (1,000 classes, 4,096 units in fc6 and fc7) on random pixels: normalisation, forward,
backward, update and filter renormalisation, as in `deconvnet.training.trainer`, without reading images. Each network and
recipe is measured in a separate process, after two steps that are not timed. `train` keeps freed memory on CPUs
(`deconvnet.environment`); `--no-kept` measures without.
"""

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table

from deconvnet.data import imagenet_classes
from deconvnet.environment import keep_freed_memory
from deconvnet.tracing import exact_float32
from deconvnet.training import Recipe, read_recipe
from deconvnet.training.data import TrainingBatch
from deconvnet.training.filter_renormalisation import renormalise_filters
from deconvnet.training.trainer import network_to_train, untrained_module

RESULTS = Path(__file__).parent / "results"
IMAGENET, EPOCHS = 1_281_167, 70


def training_step(
    network: str, recipe: Recipe, device: torch.device, layout: torch.memory_format | None = None
) -> Callable[[], None]:
    """Full-size `network`, as `train` would begin with it; returns what does a step with it and waits for the device.

    `layout` is the memory layout, by default the recipe's.
    """
    layout = layout or recipe.memory_format(device)
    mean = np.full((256, 256, 3), 116, np.float32)
    classes = tuple(wordnet_id for wordnet_id, _ in imagenet_classes())
    untrained = untrained_module(network, len(classes), recipe, "The recipe", 0)
    prepared = network_to_train(network, untrained, classes, mean, recipe).to(device)
    module, preprocessing = prepared.module.train(), prepared.preprocessing
    module.to(memory_format=layout)
    optimiser = torch.optim.SGD(module.parameters(), 1e-4, recipe.momentum, weight_decay=recipe.weight_decay)
    crop, batch_size = preprocessing.crop, recipe.batch_size
    pixels = torch.randint(0, 256, (batch_size, crop, crop, 3), dtype=torch.uint8)
    batch = TrainingBatch(pixels, torch.randint(0, len(classes), (batch_size,)))
    batch = batch.pinned_for(device)  # as `training_batches` gives them

    def step() -> None:
        with exact_float32():  # as in `train`: no TF32
            inputs, targets = batch.to_inputs(preprocessing, recipe, device)
            with recipe.autocast(device):
                logits = module(inputs.contiguous(memory_format=layout)).float()
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            renormalise_filters(module, recipe.max_filter_rms)
            float(loss.detach())

    return step


def measure(network: str, recipe_name: str, device_name: str, steps: int, kept: bool, results: Any) -> None:
    """Put the batch size and the seconds that each step took into the queue `results`."""
    if kept:
        keep_freed_memory()
    recipe = read_recipe(recipe_name)
    step = training_step(network, recipe, torch.device(device_name))
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    results.put({"batch": recipe.batch_size, "seconds": seconds[2:]})


def main(
    networks: Annotated[str, typer.Option(help="Networks to measure.")] = "alexnet2012,zfnet",
    recipes: Annotated[str, typer.Option(help="Recipes to measure them with.")] = "paper,fast",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 5,
    kept: Annotated[bool, typer.Option(help="Keep freed memory.")] = True,
    out: Annotated[Path, typer.Option(help="Where the results go, as JSON.")] = RESULTS / "training.json",
) -> None:
    spawn, rows = multiprocessing.get_context("spawn"), []
    table = Table("network", "recipe", "photos per second", f"{EPOCHS} epochs of ImageNet")
    for network in networks.split(","):
        for recipe in recipes.split(","):
            results = spawn.Queue()
            process = spawn.Process(target=measure, args=(network, recipe, device, steps, kept, results))
            process.start()
            measured = results.get()
            process.join()
            rates = [measured["batch"] / seconds for seconds in measured["seconds"]]
            rate = statistics.median(rates)
            days = EPOCHS * IMAGENET / rate / 86_400
            rows.append(
                {
                    "network": network,
                    "recipe": recipe,
                    "batch": measured["batch"],
                    "steps": steps,
                    "photos_per_second": {"median": rate, "lowest": min(rates), "highest": max(rates)},
                    "days_for_70_epochs_of_imagenet": days,
                }
            )
            duration = f"{days:.1f} days" if days >= 2 else f"{days * 24:.1f} hours"
            table.add_row(network, recipe, f"{rate:.1f} ({min(rates):.1f} to {max(rates):.1f})", duration)
    Console().print(table)
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    environment = {
        "device": f"{device}: {hardware}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "kept_freed_memory": kept,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**environment, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
