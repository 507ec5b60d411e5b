"""Judge finished training runs and make of each a folder as those are that come with the package.

    deconvnet pack imagenette --out imagenette-256
    deconvnet train alexnet2012 imagenette-256 --recipe src/deconvnet/networks/bundled/recipe.toml --out runs/alexnet2012
    deconvnet train zfnet imagenette-256 --recipe src/deconvnet/networks/bundled/recipe.toml --out runs/zfnet
    python benchmarks/imagenette.py imagenette-256 runs/alexnet2012 runs/zfnet --out bundled

Each network becomes `bundled/NAME-imagenette/`: weights.safetensors (float16), log.csv and errors.json, which holds the
errors of these very float16 weights with one view and with ten, the recipe, the seed and what it was made with.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from deconvnet.experiments.table2_errors.compute import evaluate
from deconvnet.models import load
from deconvnet.models.weights import save_weights

#: What a bundled file may weigh.
LARGEST = 12_000_000


def bundle(data: Path, run: Path, bundled_weights: Path) -> None:
    """Write the folder of one run's network."""
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    name, epochs = about["network"], about["recipe"]["epochs"]
    trained = load(name, run / "weights.safetensors")
    trained.weights = f"Imagenette, {epochs} epochs, seed {about['seed']}"
    folder = bundled_weights / f"{name}-imagenette"
    folder.mkdir(parents=True, exist_ok=True)
    file = run / "half.safetensors"  # beside those that it is made of, until it is judged
    save_weights(trained, file, torch.float16)
    if file.stat().st_size > LARGEST:
        raise SystemExit(f"{file} has {file.stat().st_size:,} bytes, more than {LARGEST:,}.")
    half = load(name, file)
    errors = {
        f"{views} view{'s' * (views > 1)}": evaluate([half], data, views, progress=True).as_json() for views in (1, 10)
    }
    for found in errors.values():
        found["data"]["folder"] = "imagenette"
    result = {**{entry: about[entry] for entry in ("network", "seed", "recipe", "photos", "made_with")}, "errors": errors}
    shutil.move(file, folder / "weights.safetensors")
    shutil.copyfile(run / "log.csv", folder / "log.csv")
    (folder / "errors.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {folder}.")
    for views, found in errors.items():
        network = found["networks"][0]
        print(f"{half.full_name}, {views}: top-1 {_percent(network['top1'])}, top-5 {_percent(network['top5'])}")


def _percent(error: dict) -> str:  # type: ignore[type-arg]
    low, high = error["interval"]
    return f"{error['error']:.1%} ({low:.1%} to {high:.1%})"


def main(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Imagenette, packed or not.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Finished runs of `deconvnet train`.")],
    out: Annotated[Path, typer.Option(help="Where the folders go: NAME-imagenette/ for each network.")],
) -> None:
    """Judge finished runs on Imagenette, and write weights (float16), log and errors of each network."""
    for run in runs:
        if not (run / "run.json").is_file() or not (run / "weights.safetensors").is_file():
            raise SystemExit(f"{run} is no finished training run: `deconvnet train` makes one.")
    for run in runs:
        bundle(data, run, out)


if __name__ == "__main__":
    typer.run(main)
