"""The command `correspond`: does a network relate the same part of different objects (Table 1, Fig. 8)."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    NetworkArgument,
    PreprocessingOption,
    check_exists,
    load_network,
    parse_layers,
)
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet correspond zfnet cats/ cats/landmarks.json --out table-1/",
        "deconvnet correspond alexnet2012:bvlc_alexnet_trunk.safetensors cats/ cats.csv --layers conv5 --out table-1/",
    )
)
def correspond(
    network: NetworkArgument,
    images: ImagesArgument,
    landmarks: Annotated[
        Path,
        typer.Argument(
            metavar="LANDMARKS",
            help='Where parts are in the photos: JSON, {"cat.jpg": {"nose": [x, y], …}, …}, or CSV, image,part,x,y.',
            callback=check_exists,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new folder for correspondence.png and correspondence.json.")],
    layers: Annotated[
        str, typer.Option(help="Layers, like conv5,fc7, or all.  [default: the last convolutional and the last hidden one]")
    ] = "",
    mask: Annotated[float, typer.Option(help="A mask's width, as a share of the view's.")] = 0.2,
    masks: Annotated[int, typer.Option(min=1, help="Masks at each place: one, and others moved a little.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Random masks of each photo.")] = 10,
    permutations: Annotated[int, typer.Option(min=1, help="Of the test against random masks.")] = 9_999,
    seed: Annotated[int, typer.Option(min=0, help="Decides where random masks lie, and the permutations.")] = 0,
    preprocessing: PreprocessingOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Mask the same part in each photo: does that change features in the same direction (Table 1, Fig. 8)?

    Δ is the share of a layer's activations whose change differs in sign between two photos: the lower, the more consistent.
    """
    from rich.console import Console

    from deconvnet.experiments.table1_correspondence import write_correspondence

    net = load_network(network, preprocessing, device)
    result = write_correspondence(
        out,
        net,
        images,
        landmarks,
        layers=parse_layers(layers, net),
        mask=mask,
        masks=masks,
        draws=draws,
        permutations=permutations,
        seed=seed,
        batch_size=batch_size,
        progress=True,
    )
    if not as_json:
        Console().print(result.table())
    print_result(
        as_json, {"out": str(out), **result.as_json()}, f"Wrote {out / 'correspondence.png'} and correspondence.json."
    )
