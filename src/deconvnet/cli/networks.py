"""The command `networks`: list networks, their weights and their layers."""

import json
from importlib.resources import files
from typing import Annotated, Any

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import JsonOption, PreprocessingOption
from deconvnet.errors import UsageError
from deconvnet.extras import missing_extra
from deconvnet.formatting import field_size


@app.command(
    epilog=example(
        "deconvnet networks",
        "deconvnet networks zfnet:imagenette",
        "deconvnet networks torchvision:resnet18",
        "deconvnet networks timm:resnet18",
    )
)
def networks(
    network: Annotated[
        str,
        typer.Argument(
            metavar="[NETWORK]",
            help="Only this one: NAME, as published; NAME:WEIGHTS, as it is with these weights; torchvision:NAME, "
            "timm:NAME or FILE.py:FUNCTION.",
        ),
    ] = "",
    preprocessing: PreprocessingOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be looked at: networks, where their weights come from, and their layers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    if preprocessing and not network:
        raise UsageError("--preprocessing describes weights: name them, as NAME:FILE.")
    published: dict[str, Any] = json.loads((files("deconvnet.cli") / "networks.json").read_text(encoding="utf-8"))
    if not network:
        found = published
    elif network in published and not preprocessing:
        found = {network: published[network]}
    else:  # imports torch and traces the network, which takes seconds
        from deconvnet.models import describe_network

        found = {network: describe_network(network, preprocessing)}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for described in found.values():
        name = described["name"]
        console.print(f"\n[bold]{escape(name)}[/bold]: {escape(described['summary'])}")
        if described["weights"]:
            console.print(f"weights: {', '.join(f'{name}:{weights}' for weights in described['weights'])}")
        table = Table(Column("layer", overflow="fold"), "units", "feature map", "receptive field", box=None)
        for layer in described["layers"]:
            sizes = "×".join(map(str, layer["map"])), field_size(layer["field"], layer.get("field_status", "exact"))
            table.add_row(layer["name"], str(layer["units"]), *sizes)
        console.print(table)
    if not network:
        console.print(
            "\n[bold]torchvision:NAME[/bold]: any classification model of torchvision, such as torchvision:resnet18"
        )
        console.print(
            "[bold]timm:NAME[/bold]: any model of timm with ReLUs, such as timm:resnet18"
            + (f" ({escape(missing)})" if (missing := missing_extra("timm")) else "")
        )
        console.print(
            "[bold]FILE.py:FUNCTION[/bold]: your own; the function returns deconvnet.Network(module, preprocessing)"
        )
