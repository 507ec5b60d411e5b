"""The command `look`: one image, taken apart."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    DeviceOption,
    ImageArgument,
    JsonOption,
    NetworkArgument,
    PreprocessingOption,
    load_network,
    open_image,
)
from deconvnet.cli.print_results import print_result


@app.command(epilog=example("deconvnet look alexnet:imagenet1k dog.jpg --out dog.png"))
def look(
    network: NetworkArgument,
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png, .pdf, .svg).")],
    units: Annotated[int, typer.Option(min=1, help="Units shown of each layer.")] = 6,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take one photo apart: its classes, and each layer's strongest units with feature map, projection and patch."""
    from deconvnet.progress import activity
    from deconvnet.storage import atomic_path

    with activity(f"Loading {network}") as now, atomic_path(out, ".png", ".pdf", ".svg") as file:
        import matplotlib

        from deconvnet.experiments.look import look as look_at  # with torch, which takes seconds

        photo, loaded = open_image(image), load_network(network, preprocessing, device)
        now(f"Projecting {len(loaded.layers)} layers")
        result = look_at(loaded, photo, image.name, units)
        now(f"Drawing {out}")
        with matplotlib.rc_context({"image.composite_image": False}):  # or an SVG has all pictures in one
            result.figure().savefig(file)
    print_result(as_json, result.as_json(), f"Wrote {out}.")
