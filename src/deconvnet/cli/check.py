"""The command `check`: are the pictures of a network right?"""

from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import JsonOption, NetworkArgument, PreprocessingOption, load_network, parse_layers
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet check zfnet --layers conv1,conv5", "deconvnet check mine.py:net", "deconvnet check zfnet --json"
    )
)
def check(
    network: NetworkArgument,
    layers: Annotated[str, typer.Option(help="Layers, like conv1,conv5.  [default: all]")] = "",
    places: Annotated[int, typer.Option(min=1, help="Activations compared in each layer.")] = 4,
    preprocessing: PreprocessingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a network's projections are right: compare them with a second, plain implementation in float64.

    Prints a table of its layers, and what is exact, approximated or refused. Exits with 1 if anything is refused or wrong.
    """
    from deconvnet.checking import check as check_network  # with torch, which takes seconds

    loaded = load_network(network, preprocessing, "cpu")
    result = check_network(loaded, parse_layers(layers, loaded), places=places, progress=True)
    print_result(as_json, result.as_json(), *str(result).splitlines())
    if not result.is_right:
        raise typer.Exit(1)
