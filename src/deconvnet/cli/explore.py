"""The command `explore`: serve atlases and the live page."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import NETWORK_HELP, DeviceOption, PreprocessingOption, check_exists, find_device, load_network
from deconvnet.cli.print_results import print_line
from deconvnet.errors import UsageError
from deconvnet.extras import require_extra


@app.command(
    epilog=example(
        "deconvnet explore demo/zfnet demo/alexnet2012",
        "deconvnet explore --network alexnet:imagenet1k",
        "deconvnet explore atlas/ --network net.py:mine --port 9000",
    )
)
def explore(
    atlases: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ATLAS", help="Folders that deconvnet atlas or demo wrote.", callback=check_exists),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{NETWORK_HELP}  May be given several times.  [default: those of the atlases, if their weights are here]",
            show_default=False,
        ),
    ] = None,
    preprocessing: PreprocessingOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Where to listen; 0 is any free port.  [default: 8000, or the next that is free]"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; with another one, other machines can use this.")
    ] = "127.0.0.1",
    device: DeviceOption = "",
) -> None:
    """Browse atlases in a browser, and drop your own photo on the page to see what a network makes of it.

    Photos stay on this machine, in memory. Ctrl-C ends it.
    """
    from rich.console import Console

    require_extra("explore")
    if not atlases and not network:
        raise UsageError("There is nothing to explore: pass the folder of an atlas, or --network NETWORK.")
    if preprocessing is not None and len(network or []) != 1:
        raise UsageError("--preprocessing describes the weights of one network: pass one --network with it.")
    with ExitStack() as stack:
        with Console(stderr=True).status("Loading PyTorch …"):  # on a terminal only
            from deconvnet.explorer.middleware import is_loopback
            from deconvnet.explorer.served_networks import find_models
            from deconvnet.explorer.server import listen, serve

            device = find_device(device)
        listener = stack.enter_context(listen(host, port))  # loading takes longer than to say that the port is taken
        networks = [load_network(name, preprocessing, device) for name in network or []]
        models = find_models(atlases or [], networks, device)
        if not is_loopback(host):
            print_line(
                f"deconvnet: Anyone who reaches {host} can use this machine's processor and see the names of the photos in "
                "the atlases, as there is no password.",
                sys.stderr,
            )
        for model in models:
            if model.atlas and model.unavailable_reason:
                print_line(
                    f"deconvnet: {model.atlas.folder} can be browsed, but takes no photos. {model.unavailable_reason}",
                    sys.stderr,
                )
        serve(models, listener, host, lambda address: print(f"Open {address} (Ctrl-C ends it).", flush=True))
