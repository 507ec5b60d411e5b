"""The command `merge`: make an atlas of parts that were mined apart."""

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
    OutOption,
    PreprocessingOption,
    UnitsOption,
    WorkersOption,
    check_exists,
    load_network,
    parse_ranges,
)
from deconvnet.cli.print_results import print_atlas


@app.command(epilog=example("deconvnet merge alexnet:imagenet1k photos/ half-1.safetensors half-2.safetensors --out atlas/"))
def merge(
    network: NetworkArgument,
    images: ImagesArgument,
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART…", help="What `deconvnet mine` wrote: all parts.", callback=check_exists)
    ],
    out: OutOption,
    units: UnitsOption = "",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the atlas of photos that were mined in parts: the same that one `deconvnet atlas` over all of them makes.

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.atlas import Atlas

    merged = Atlas.build(
        load_network(network, preprocessing, device),
        images,
        out,
        units=parse_ranges(units) if units else None,
        parts=parts,
        batch_size=batch_size,
        workers=workers,
        progress=True,
    )
    print_atlas(as_json, merged)
