"""The command `mine`: mine one part of a set of images."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ImagesArgument,
    LayersOption,
    NetworkArgument,
    PreprocessingOption,
    TopOption,
    WorkersOption,
    load_network,
    parse_layers,
    parse_numbers,
)
from deconvnet.errors import UsageError


@app.command(
    epilog=example(
        "deconvnet mine alexnet:imagenet1k photos/ --part 1/2 --out half-1.safetensors",
        "deconvnet merge alexnet:imagenet1k photos/ half-1.safetensors half-2.safetensors --out atlas/",
    )
)
def mine(
    network: NetworkArgument,
    images: ImagesArgument,
    out: Annotated[Path, typer.Option(help="The file for what is found (.safetensors).")],
    part: Annotated[str, typer.Option(metavar="K/N", help="Which of N parts of the photos, in blocks of 32.")] = "1/1",
    layers: LayersOption = "",
    top: TopOption = 9,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
) -> None:
    """Mine one part of a folder of photos, for `deconvnet merge` to make the atlas of all parts.

    Each machine may mine a part, with its own copy of the photos. If it is stopped, or killed, the same command goes on
    where it was.
    """
    from deconvnet.data import find_images
    from deconvnet.distributed import Processes
    from deconvnet.mining import mine_part

    if out.suffix != ".safetensors":
        raise UsageError(f"{out} should end in .safetensors.")
    number, of = parse_numbers(part, 2, "--part", "/")
    net, image_set = load_network(network, preprocessing, device), find_images(images)
    processes = Processes.from_environment()
    state = mine_part(
        net,
        image_set,
        out.absolute(),
        (number, of),
        parse_layers(layers, net),
        top,
        processes,
        batch_size=batch_size,
        workers=workers,
        progress=processes.is_first,
    )
    if processes.is_first:
        print(f"Wrote {out}: {state.read_count:,} of {len(image_set):,} photos.")
