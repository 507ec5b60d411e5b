"""Commands for one network and one photo: networks, look, project."""

import json
from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    RULE_NAMES,
    DescriptionOption,
    DeviceOption,
    ImageArgument,
    JsonOption,
    NetworkArgument,
    load_network,
    open_photo,
    parse_numbers,
)
from deconvnet.cli.output import say
from deconvnet.errors import UsageError


@app.command(
    epilog=example("deconvnet networks", "deconvnet networks zfnet:imagenette", "deconvnet networks torchvision:resnet18")
)
def networks(
    network: Annotated[
        str,
        typer.Argument(
            metavar="[NETWORK]",
            help="Only this one: NAME, as published; NAME:WEIGHTS, as it is with these weights; torchvision:NAME or "
            "FILE.py:FUNCTION.",
        ),
    ] = "",
    preprocessing: DescriptionOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be looked at: networks, where their weights come from, and their layers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from deconvnet.models import ARCHITECTURES, describe_network

    if preprocessing and not network:
        raise UsageError("--preprocessing describes weights: name them, as NAME:FILE.")
    found = {name: describe_network(name, preprocessing) for name in ([network] if network else ARCHITECTURES)}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for described in found.values():
        name = described["name"]
        console.print(f"\n[bold]{escape(name)}[/bold]: {escape(described['summary'])}")
        if described["weights"]:
            console.print(f"weights: {', '.join(f'{name}:{weights}' for weights in described['weights'])}")
        table = Table("layer", "units", "feature map", "receptive field", box=None)
        for layer in described["layers"]:
            table.add_row(layer["name"], str(layer["units"]), *("×".join(map(str, layer[key])) for key in ("map", "field")))
        console.print(table)
    if not network:
        console.print(
            "\n[bold]torchvision:NAME[/bold]: any classification model of torchvision, such as torchvision:resnet18"
        )
        console.print(
            "[bold]FILE.py:FUNCTION[/bold]: your own; the function returns deconvnet.Network(module, preprocessing)"
        )


@app.command(epilog=example("deconvnet look alexnet:imagenet1k dog.jpg --out dog.png"))
def look(
    network: NetworkArgument,
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png, .pdf, .svg).")],
    units: Annotated[int, typer.Option(min=1, help="Units shown of each layer.")] = 6,
    preprocessing: DescriptionOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take one photo apart: its classes, and each layer's strongest units with feature map, projection and patch."""
    from deconvnet.experiments.look import look as look_at
    from deconvnet.storage import atomic_path

    with atomic_path(out, ".png", ".pdf", ".svg") as file:
        result = look_at(load_network(network, preprocessing, device), open_photo(image), image.name, units)
        result.figure().savefig(file)
    say(as_json, result.as_json(), f"Wrote {out}.")


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
    preprocessing: DescriptionOption = None,
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
        x = net.preprocess(open_photo(image))[None]
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
            projection_picture(projection[0], net.preprocessing.pixels(x)[0], box, heading, net.full_name).save(file)
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
    say(as_json, result, f"Wrote {out}: {layer} unit {unit} at {row},{column}, activation {value:.4g}.{silent}")
