"""The command `project`: one activation, projected to pixels."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    RULE_NAMES,
    DeviceOption,
    ImageArgument,
    JsonOption,
    NetworkArgument,
    PreprocessingOption,
    load_network,
    open_image,
    parse_numbers,
)
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet project alexnet:imagenet1k dog.jpg --layer conv5 --out strongest.png",
        "deconvnet project alexnet:imagenet1k dog.jpg --layer conv5 --unit 12 --position 6,7 --out unit-12.npy",
        "deconvnet project alexnet:imagenet1k dog.jpg --layer conv5 --rules guided --out guided.png",
    )
)
def project(
    network: NetworkArgument,
    image: ImageArgument,
    layer: Annotated[str, typer.Option(help="The layer that the activation belongs to.")],
    out: Annotated[Path, typer.Option(help="A picture (.png) or the values, (3, H, W) float32 (.npy).")],
    unit: Annotated[
        int | None, typer.Option(help="The unit.  [default: the one that is driven most, at --position or anywhere]")
    ] = None,
    position: Annotated[
        str,
        typer.Option(metavar="ROW,COLUMN", help="Place in its feature map.  [default: its strongest]", show_default=False),
    ] = "",
    rules: Annotated[str, typer.Option(help=f"What is done on the way down: {RULE_NAMES}.")] = "deconvnet",
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Project one activation of one photo down to pixel space."""
    import numpy as np

    from deconvnet.atlas.render import projection_picture
    from deconvnet.projection import project as project_down
    from deconvnet.projection import rule_set, strongest_unit
    from deconvnet.storage import atomic_path

    with atomic_path(out, ".png", ".npy") as file:
        way_down = rule_set(rules)  # before the network is loaded
        net = load_network(network, preprocessing, device)
        x = net.preprocess(open_image(image))[None]
        at = None
        if position:
            at_row, at_column = parse_numbers(position, 2, "--position")
            at = at_row, at_column
        if unit is None:
            unit = strongest_unit(net, x, layer, at)
        projection = project_down(net, x, layer=layer, unit=unit, position=at, rules=way_down)
        (value,), ((row, column),), (box,) = projection.activations, projection.places, projection.boxes
        if file.suffix == ".npy":
            np.save(file, projection[0].cpu().numpy())
        else:
            heading = f"{layer} · unit {unit} · position {row},{column} · activation {value:.4g}"
            if rules != "deconvnet":
                heading += f" · {rules}"
            projection_picture(projection[0], net.preprocessing.denormalise(x)[0], box, heading, net.full_name).save(file)
    result = {
        "network": net.full_name,
        "layer": layer,
        "unit": unit,
        "row": row,
        "column": column,
        "value": value,
        "rules": rules,
    }
    silent = "" if value else " The unit is silent there, so nothing comes down."
    print_result(as_json, result, f"Wrote {out}: {layer} unit {unit} at {row},{column}, activation {value:.4g}.{silent}")
