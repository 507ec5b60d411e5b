"""Train one of the two bundled networks again, by their recipe, and write its weights with their errors.

    python benchmarks/retrain.py zfnet imagenette-256 --seed 1 --weights zfnet-seed-1.safetensors [--device cuda]

What `deconvnet train` and `benchmarks/imagenette.py` do one after the other: the weights are float16, like the bundled ones,
which stay as they are. --out gets what lies beside those: the errors with one view and with ten, and the log of the epochs.
"""

import json
import shutil
import tempfile
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import torch
import typer
from imagenette import bundle
from side_by_side import RESULTS, Device, Out, machine

from deconvnet.training import read_log, read_recipe, train


def main(
    network: Annotated[str, typer.Argument(help="alexnet2012 or zfnet.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Imagenette, packed or not: a folder with train/ and val/.")],
    weights: Annotated[Path, typer.Option(help="The file for the weights (.safetensors).")],
    seed: Annotated[int, typer.Option(min=0, help="What everything random is drawn from.")] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="0: as many as the recipe has.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Size of a batch; 0: the recipe's.")] = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    recipe = read_recipe(Path(str(files("deconvnet.models") / "bundled" / "recipe.toml")))
    recipe = replace(recipe, epochs=epochs or recipe.epochs, batch_size=batch or recipe.batch_size)
    with tempfile.TemporaryDirectory() as temporary:
        run, bundled = Path(temporary) / "run", Path(temporary) / "bundled"
        start = time.perf_counter()
        train(network, data, run, recipe, seed=seed, device=device, progress=True)
        seconds = time.perf_counter() - start
        bundle(data, run, bundled, device)
        folder = bundled / f"{network}-imagenette"
        shutil.move(folder / "weights.safetensors", weights)
        errors = json.loads((folder / "errors.json").read_text(encoding="utf-8"))
        result = {**errors, "epochs": read_log(run), "seconds": seconds, "machine": machine(torch.device(device))}
    out = out or RESULTS / f"{network}-seed-{seed}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
