"""The command `occlude`: cover parts of images and follow a network's response (Fig. 7)."""

from pathlib import Path
from typing import Annotated, cast

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    NetworkArgument,
    PreprocessingOption,
    WorkersOption,
    check_exists,
    load_network,
    parse_numbers,
)
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet occlude zfnet dog.jpg church.jpg --others imagenette/val --out fig-7/",
        'deconvnet occlude alexnet:imagenet1k dog.jpg --label "Pomeranian" --size 64 --stride 8 --out fig-7/',
    )
)
def occlude(
    network: NetworkArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE…", help="Photos, drawn in the order of their paths; the paper shows three.", callback=check_exists
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new folder for occlusion.png and occlusion.json.")],
    label: Annotated[
        str,
        typer.Option(
            help="Id, name or number of the class of all photos.  [default: their folder's name, if it is a class, or "
            "else what the network says of each]"
        ),
    ] = "",
    others: Annotated[
        Path | None,
        typer.Option(help="A folder of photos, of which those are shown that drive the same unit.  [default: the photos]"),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels of the occluder, across and down.")] = 50,
    stride: Annotated[int, typer.Option(min=1, help="Pixels between its positions.")] = 6,
    shape: Annotated[str, typer.Option(help="square or disc.")] = "square",
    colour: Annotated[
        str,
        typer.Option(
            help="R,G,B from 0 to 255, like 255,0,0.  [default: the mean, 0 in the network's input]", show_default=False
        ),
    ] = "",
    preprocessing: PreprocessingOption = None,
    batch_size: BatchSizeOption = 64,
    workers: WorkersOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Move a square over photos, and follow the strongest unit, the class's probability and the best guess (Fig. 7)."""
    from deconvnet.experiments.fig7_occlusion import Occluder, write_occlusion
    from deconvnet.experiments.fig7_occlusion.occluder import Shape

    red, green, blue = parse_numbers(colour, 3, "--colour") if colour else (0, 0, 0)
    occluder = Occluder(size, stride, (red, green, blue) if colour else None, cast(Shape, shape))
    net = load_network(network, preprocessing, device)
    result = write_occlusion(
        out, net, images, occluder, label=label, search_images=others, batch_size=batch_size, workers=workers, progress=True
    )
    print_result(
        as_json,
        {"out": str(out), **result.as_json()},
        *result.findings,
        f"Wrote {out / 'occlusion.png'} and occlusion.json.",
    )
