"""The command `compare`: two networks compared (Fig. 6)."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    NETWORK_HELP,
    BatchSizeOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    PreprocessingOption,
    WorkersOption,
    load_network,
)
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet compare alexnet2012 zfnet photos/ --out fig-6/",
        "deconvnet compare alexnet2012:bvlc_alexnet_trunk.safetensors zfnet:run/weights.safetensors photos/ --out fig-6/",
    )
)
def compare(
    first: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    second: Annotated[str, typer.Argument(metavar="NETWORK", help="The network to set beside it.")],
    images: ImagesArgument,
    out: Annotated[Path, typer.Option(help="The new folder for pictures and comparison.json.")],
    units: Annotated[int, typer.Option(min=1, help="Units shown of each second layer.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Decides which units and photos are drawn.")] = 0,
    preprocessing: PreprocessingOption = None,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set two networks beside each other: filters, what excites their second layers, and the numbers behind it (Fig. 6).

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.experiments.fig6_comparison import write_comparison

    networks = [load_network(name, preprocessing, device) for name in (first, second)]
    result = write_comparison(
        out, networks[0], networks[1], images, units, seed=seed, batch_size=batch_size, workers=workers, progress=True
    )
    lines = [finding.measured for finding in result.findings]
    print_result(as_json, {"out": str(out), **result.as_json()}, *lines, f"Wrote pictures and comparison.json to {out}.")
