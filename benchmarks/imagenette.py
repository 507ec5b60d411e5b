"""Evaluate finished training runs and write a folder for each, like those of the bundled networks.

    deconvnet pack imagenette --out imagenette-256
    deconvnet train alexnet2012 imagenette-256 --recipe src/deconvnet/models/bundled/recipe.toml --out runs/alexnet2012
    deconvnet train zfnet imagenette-256 --recipe src/deconvnet/models/bundled/recipe.toml --out runs/zfnet
    python benchmarks/imagenette.py imagenette-256 runs/alexnet2012 runs/zfnet --out bundled

A folder `bundled/NAME-imagenette/` has weights.safetensors (float16), log.csv and errors.json: the errors of the float16
weights with one view and with ten, the recipe, the seed and the software versions.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from deconvnet.experiments.table2_errors import evaluate
from deconvnet.models import load
from deconvnet.models.weights import save_weights

#: Bytes that a bundled file may have at most.
MAX_BYTES = 12_000_000


def bundle(data: Path, run: Path, out: Path, device: str = "cpu") -> None:
    """Write the folder for one run's network into `out`; its errors are computed on `device`."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    name, epochs = record["network"], record["recipe"]["epochs"]
    trained = load(name, run / "weights.safetensors")
    trained.weights = f"Imagenette, {epochs} epochs, seed {record['seed']}"
    folder = out / f"{name}-imagenette"
    folder.mkdir(parents=True, exist_ok=True)
    file = run / "half.safetensors"  # in the run until it is evaluated
    save_weights(trained, file, torch.float16)
    if file.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{file} has {file.stat().st_size:,} bytes, more than {MAX_BYTES:,}.")
    half = load(name, file).to(device)
    errors = {
        f"{views} view{'s' * (views > 1)}": evaluate([half], data, views, progress=True).as_json() for views in (1, 10)
    }
    for evaluation in errors.values():
        evaluation["data"]["folder"] = "imagenette"
    result = {**{entry: record[entry] for entry in ("network", "seed", "recipe", "photos", "made_with")}, "errors": errors}
    shutil.move(file, folder / "weights.safetensors")
    shutil.copyfile(run / "log.csv", folder / "log.csv")
    (folder / "errors.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {folder}.")
    for views, evaluation in errors.items():
        network = evaluation["networks"][0]
        print(f"{half.full_name}, {views}: top-1 {_percent(network['top1'])}, top-5 {_percent(network['top5'])}")


def _percent(error: dict) -> str:  # type: ignore[type-arg]
    low, high = error["interval"]
    return f"{error['error']:.1%} ({low:.1%} to {high:.1%})"


def main(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Imagenette, packed or not.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Finished runs of `deconvnet train`.")],
    out: Annotated[Path, typer.Option(help="Where the folders go: NAME-imagenette/ for each network.")],
    device: Annotated[str, typer.Option(help="Where the errors are computed: cpu or cuda.")] = "cpu",
) -> None:
    """Evaluate finished runs on Imagenette, and write weights (float16), log and errors of each network."""
    for run in runs:
        if not (run / "run.json").is_file() or not (run / "weights.safetensors").is_file():
            raise SystemExit(f"{run} is no finished training run: `deconvnet train` makes one.")
    for run in runs:
        bundle(data, run, out, device)


if __name__ == "__main__":
    typer.run(main)
