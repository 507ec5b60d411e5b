"""The command `evolve`: how units change while a network is trained (Fig. 4)."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    WorkersOption,
    check_exists,
    find_device,
)
from deconvnet.cli.print_results import print_result


@app.command(epilog=example("deconvnet evolve runs/zfnet imagenette/val --out evolution/"))
def evolve(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder that `deconvnet train` has made.", callback=check_exists)
    ],
    images: ImagesArgument,
    out: Annotated[Path, typer.Option(help="The new folder for evolution.png and evolution.json.")],
    units: Annotated[int, typer.Option(min=1, help="Units shown of each layer.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Decides which units and photos are drawn.")] = 0,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show how random units of each layer changed while a network was trained, and when each layer settled (Fig. 4).

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.experiments.fig4_evolution import write_evolution

    result = write_evolution(
        out,
        run,
        images,
        units,
        seed=seed,
        device=find_device(device),
        batch_size=batch_size,
        workers=workers,
        progress=True,
    )
    lines = [
        f"{name} {f'had not settled before epoch {result.epochs[-1]}' if epoch is None else f'settled at epoch {epoch}'}."
        for name, epoch in result.convergence_epochs.items()
    ]
    print_result(
        as_json, {"out": str(out), **result.as_json()}, *lines, f"Wrote {out / 'evolution.png'} and evolution.json."
    )
