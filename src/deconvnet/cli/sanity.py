"""The command `sanity`: what projections and occlusion maps depend on, by randomising weights."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    RULE_NAMES,
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
        "deconvnet sanity zfnet dog.jpg church.jpg --out sanity/",
        "deconvnet sanity alexnet2012:bvlc_alexnet_trunk.safetensors dog.jpg --rules deconvnet,gradient --out sanity/",
    )
)
def sanity(
    network: NetworkArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE…", help="Photos; pictures are drawn of the first by its path.", callback=check_exists),
    ],
    out: Annotated[Path, typer.Option(help="The new folder for sanity.png and sanity.json.")],
    layer: Annotated[
        str, typer.Option(help="The layer whose strongest activation is projected.  [default: the last convolutional one]")
    ] = "",
    rules: Annotated[str, typer.Option(help=f"Rule sets: {RULE_NAMES}.  [default: all]")] = "",
    draws: Annotated[int, typer.Option(min=2, help="How often all is made random, each time by other numbers.")] = 3,
    stride: Annotated[
        int, typer.Option(min=1, help="Pixels between positions of the occluder, a square of 50 pixels.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random weights.")] = 0,
    preprocessing: PreprocessingOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Randomise the network from the top down, and see how much of its pictures stays (Adebayo et al. 2018).

    What is still alike when all weights are random does not come from what the network has learnt. Occlusion maps, which
    follow the class that the network says first, are also checked by covering the photo in their order.
    """
    from deconvnet.experiments.sanity_checks import write_sanity
    from deconvnet.projection import RULES

    net = load_network(network, preprocessing, device)
    names = [name.strip() for name in rules.split(",")] if rules else list(RULES)
    result = write_sanity(
        out, net, images, layer, rules=names, draws=draws, stride=stride, seed=seed, batch_size=batch_size, progress=True
    )
    print_result(
        as_json, {"out": str(out), **result.as_json()}, *result.findings, f"Wrote {out / 'sanity.png'} and sanity.json."
    )
