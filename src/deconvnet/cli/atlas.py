"""The command `atlas`: every unit's strongest activations over a set of images."""

import os
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayersOption,
    NetworkArgument,
    OutOption,
    PreprocessingOption,
    TopOption,
    UnitsOption,
    WorkersOption,
    load_network,
    parse_layers,
    parse_ranges,
)
from deconvnet.cli.print_results import print_atlas
from deconvnet.errors import UsageError


@app.command(
    epilog=example(
        "deconvnet atlas alexnet:imagenet1k photos/ --out atlas/",
        "deconvnet atlas alexnet2012:weights.safetensors photos/ --out atlas/ --layers conv1,conv5 --units 0-15",
        "torchrun --nproc-per-node 4 -m deconvnet atlas alexnet:imagenet1k photos/ --out atlas/",
    )
)
def atlas(
    network: NetworkArgument,
    images: ImagesArgument,
    out: OutOption,
    layers: LayersOption = "",
    units: UnitsOption = "",
    top: TopOption = 9,
    fast: Annotated[bool, typer.Option("--fast", hidden=True, help="Gone; it says so.")] = False,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find what every unit responds to: its strongest activations over a folder of photos, each with its projection.

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.atlas import Atlas
    from deconvnet.atlas.build import build_atlas
    from deconvnet.distributed import Processes

    if fast:
        raise UsageError("--fast is gone: the exact search is as quick. Leave it out.")
    net, processes = load_network(network, preprocessing, device), Processes.from_environment()
    build_atlas(
        net,
        images,
        out,
        parse_layers(layers, net),
        parse_ranges(units) if units else None,
        top,
        processes=processes,
        batch_size=batch_size,
        workers=workers,
        progress=processes.is_first,
    )
    if processes.is_first:
        print_atlas(as_json, Atlas(os.path.realpath(out)))
