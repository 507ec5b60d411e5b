"""The command `demo`: atlases of scikit-image's photos."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import NETWORK_HELP, DeviceOption, JsonOption, load_network, parse_ranges
from deconvnet.cli.print_results import atlas_as_json, describe_atlas, print_result
from deconvnet.errors import UsageError


@app.command(epilog=example("deconvnet demo", "deconvnet demo --network alexnet:imagenet1k --units 0-15 --out demo-alexnet"))
def demo(
    network: Annotated[
        str, typer.Option(metavar="NETWORK", help=f"{NETWORK_HELP}  [default: both that come with deconvnet]")
    ] = "",
    out: Annotated[Path, typer.Option(help="The new folder for photos and atlases.")] = Path("demo"),
    units: Annotated[str, typer.Option(help="Units of each layer, like 0-15,40, or all.")] = "0-31",
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make atlases of scikit-image's photos, cut into a few hundred views: a first try that needs no data and no network
    connection.
    """
    from deconvnet.atlas import Atlas
    from deconvnet.atlas.html import page_files, write_pages
    from deconvnet.demo_images import write_views
    from deconvnet.models.bundled import BUNDLED

    networks = [load_network(name, None, device) for name in ([network] if network else BUNDLED)]
    chosen = None if units == "all" else parse_ranges(units)
    missing = [net for net in networks if not (out / _folder_name(net.name)).exists()]
    if not missing:
        raise UsageError(f"{out} holds this demo already: choose another --out, or remove it first.")
    write_views(out / "photos")
    books = [  # of those that a call which was stopped has not made
        Atlas.build(net, out / "photos", out / _folder_name(net.name), units=chosen, progress=True) for net in missing
    ]
    folders = [out / _folder_name(net.name) for net in networks]
    for folder in folders:
        write_pages(folder, page_files(folder, [other.name for other in folders if other != folder]))
    lines = [line for atlas_on_disk in books for line in describe_atlas(atlas_on_disk)]
    if len(folders) > 1:
        lines.append(f"Side by side: open {(folders[0] / 'compare.html').resolve().as_uri()}?with={folders[1].name}")
    lines.append(f"With a photo of your own: deconvnet explore {' '.join(shlex.quote(str(folder)) for folder in folders)}")
    print_result(as_json, {"atlases": [atlas_as_json(atlas_on_disk) for atlas_on_disk in books]}, *lines)


def _folder_name(network: str) -> str:
    """A network's name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", network).strip(".-") or "network"
