"""Commands for many photos: atlas, mine, merge, demo."""

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    NETWORK_HELP,
    BatchSizeOption,
    DescriptionOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayersOption,
    NetworkArgument,
    OutOption,
    TopOption,
    UnitsOption,
    WorkersOption,
    load_network,
    parse_layers,
    parse_numbers,
    parse_ranges,
    there,
)
from deconvnet.cli.output import left_out, say
from deconvnet.errors import UsageError

if TYPE_CHECKING:
    from deconvnet.atlas import Atlas


@app.command(
    epilog=example(
        "deconvnet atlas alexnet:imagenet1k photos/ --out atlas/",
        "deconvnet atlas alexnet2012:weights.safetensors photos/ --out atlas/ --layers conv1,conv5 --units 0-15",
        "torchrun --nproc-per-node 4 -m deconvnet atlas alexnet:imagenet1k photos/ --out atlas/",
    )
)
def atlas(
    network: NetworkArgument,
    images: ImagesArgument,
    out: OutOption,
    layers: LayersOption = "",
    units: UnitsOption = "",
    top: TopOption = 9,
    fast: Annotated[
        bool, typer.Option("--fast", help="Search in bfloat16 first: quicker, and a hit may be missed.")
    ] = False,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: DescriptionOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find what every unit responds to: its strongest activations over a folder of photos, each with its projection.

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.atlas import Atlas
    from deconvnet.atlas.build import build_atlas
    from deconvnet.distributed import Processes

    net, processes = load_network(network, preprocessing, device), Processes.here()
    build_atlas(
        net,
        images,
        out,
        parse_layers(layers, net),
        parse_ranges(units) if units else None,
        top,
        processes,
        fast=fast,
        batch_size=batch_size,
        workers=workers,
        progress=processes.first,
    )
    if processes.first:
        _say_atlas(as_json, Atlas(os.path.realpath(out)))


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
    preprocessing: DescriptionOption = None,
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
    net, processes, image_set = load_network(network, preprocessing, device), Processes.here(), find_images(images)
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
        progress=processes.first,
    )
    if processes.first:
        print(f"Wrote {out}: {state.read:,} of {len(image_set):,} photos.")


@app.command(epilog=example("deconvnet merge alexnet:imagenet1k photos/ half-1.safetensors half-2.safetensors --out atlas/"))
def merge(
    network: NetworkArgument,
    images: ImagesArgument,
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART…", help="What `deconvnet mine` wrote: all parts.", callback=there)
    ],
    out: OutOption,
    units: UnitsOption = "",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: DescriptionOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the atlas of photos that were mined in parts: the same that one `deconvnet atlas` over all of them makes.

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.atlas import Atlas
    from deconvnet.atlas.build import merge_atlas

    merge_atlas(
        load_network(network, preprocessing, device),
        images,
        parts,
        out,
        parse_ranges(units) if units else None,
        batch_size=batch_size,
        workers=workers,
        progress=True,
    )
    _say_atlas(as_json, Atlas(os.path.realpath(out)))


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
    from deconvnet.atlas.html import write_pages
    from deconvnet.demo import write_views
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
        write_pages(folder, [other.name for other in folders if other != folder])
    lines = [line for book in books for line in _about(book)]
    if len(folders) > 1:
        lines.append(f"Side by side: open {(folders[0] / 'compare.html').resolve().as_uri()}?with={folders[1].name}")
    lines.append(f"With a photo of your own: deconvnet explore {' '.join(shlex.quote(str(folder)) for folder in folders)}")
    say(as_json, {"atlases": [_atlas_as_json(book) for book in books]}, *lines)


def _folder_name(network: str) -> str:
    """A network's name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", network).strip(".-") or "network"


def _say_atlas(as_json: bool, book: "Atlas") -> None:
    say(as_json, _atlas_as_json(book), *_about(book))


def _atlas_as_json(book: "Atlas") -> dict[str, Any]:
    return {"atlas": str(book.folder), **book.description}


def _about(book: "Atlas") -> list[str]:
    """What is said of a new atlas, line by line."""
    images = book.description["images"]
    wrote = (
        f"Wrote {book.folder}: {len(book.units):,} units over {images['read']:,} photos. Open {book.folder / 'index.html'}."
    )
    return [wrote, *left_out(images["ignored"], images["skipped"])]
