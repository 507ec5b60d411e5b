"""One epoch of training on a packed set: both networks by both recipes, as `deconvnet train` does it.

    python benchmarks/epoch.py PACKED [--networks alexnet2012,zfnet] [--recipes paper,fast] [--device cuda]
    torchrun --nproc-per-node 2 benchmarks/epoch.py PACKED --device cuda

PACKED is the folder with train/ and val/ that `deconvnet pack` makes. Photos per second and the share of the time that was
spent waiting for photos are those of the epoch's steps; the seconds are those of the whole call, with building the network,
checkpoints and validation.
"""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from rich.console import Console
from rich.table import Table
from side_by_side import RESULTS, Device, Out, machine

from deconvnet.distributed import Processes
from deconvnet.training import read_recipe, train
from deconvnet.training.logs import Logs


def measure(network: str, recipe_name: str, batch: int, data: Path, device: str) -> dict[str, Any]:
    """Train for one epoch, in batches of the recipe's size unless `batch` is another."""
    recipe = replace(read_recipe(recipe_name), epochs=1)
    recipe = replace(recipe, batch_size=batch or recipe.batch_size)
    measured: dict[str, float] = {}

    def log_step(_: Logs, step: int, rate: float, loss: float, error: float, photos: float, waiting: float) -> None:
        measured.update(photos_per_second=photos, waiting=waiting, loss=loss)  # of the epoch so far

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary, mock.patch.object(Logs, "log_step", log_step):
        train(network, data, Path(temporary) / "run", recipe, device=device)
    return {"network": network, "recipe": recipe_name, "seconds": time.perf_counter() - start, **measured}


def main(
    data: Annotated[Path, typer.Argument(metavar="PACKED", help="A folder with train/ and val/.")],
    networks: Annotated[str, typer.Option(help="Networks to train.")] = "alexnet2012,zfnet",
    recipes: Annotated[str, typer.Option(help="Recipes to train them with.")] = "paper,fast",
    batch: Annotated[int, typer.Option(min=0, help="Size of a batch; 0: the recipe's.")] = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    rows = [
        measure(network, recipe, batch, data, device) for network in networks.split(",") for recipe in recipes.split(",")
    ]
    processes = Processes.from_environment()
    if not processes.is_first:
        return
    table = Table("network", "recipe", "photos per second", "waiting", "seconds in all")
    for row in rows:
        speed = f"{row['photos_per_second']:,.0f}", f"{row['waiting']:.1%}", f"{row['seconds']:.1f}"
        table.add_row(row["network"], row["recipe"], *speed)
    Console().print(table)
    out = out or RESULTS / "epoch.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"rows": rows, "processes": processes.world_size, "machine": machine(torch.device(device))}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
