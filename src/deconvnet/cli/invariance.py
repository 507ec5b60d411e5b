"""The command `invariance`: translate, scale and rotate images (Fig. 5)."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    NetworkArgument,
    PreprocessingOption,
    check_exists,
    load_network,
)
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet invariance zfnet dog.jpg church.jpg --out fig-5/",
        'deconvnet invariance alexnet:imagenet1k dog.jpg --label "African crocodile" --out fig-5/',
    )
)
def invariance(
    network: NetworkArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Photos; the paper shows five.", callback=check_exists)
    ],
    out: Annotated[Path, typer.Option(help="The new folder for invariance.png and invariance.json.")],
    label: Annotated[
        str, typer.Option(help="Id, name or number of the class to follow.  [default: each photo's most probable one]")
    ] = "",
    preprocessing: PreprocessingOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Move, enlarge and turn photos, and follow features and probabilities (Fig. 5)."""
    from deconvnet.experiments.fig5_invariance import write_invariance

    net = load_network(network, preprocessing, device)
    result = write_invariance(out, net, images, label, batch_size=batch_size, progress=True)
    print_result(
        as_json,
        {"out": str(out), **result.as_json()},
        *result.findings,
        f"Wrote {out / 'invariance.png'} and invariance.json.",
    )
