"""The command line: parses, calls, prints; no logic of its own."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TextIO

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

import deconvnet
from deconvnet.atlas import Atlas
from deconvnet.atlas.build import build_atlas, merge_atlas
from deconvnet.atlas.drawing import projection_picture
from deconvnet.demo import write_views
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.look import look as look_at
from deconvnet.files import replacing
from deconvnet.images import UnreadableImage, find_photos, read_image
from deconvnet.mining import Processes, mine_part
from deconvnet.names import printable
from deconvnet.networks import ARCHITECTURES, Network, describe_network, load
from deconvnet.projection import RULES, project_each, rule_set, strongest_unit

app = typer.Typer(
    help=deconvnet.__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NETWORK_HELP = "NAME, NAME:WEIGHTS, torchvision:NAME or FILE.py:FUNCTION, see `deconvnet networks`."
NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=_NETWORK_HELP)]
ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="One photo.")]
DeviceOption = Annotated[
    str, typer.Option(help="cpu, cuda or mps.  [default: cuda if there is one, else cpu]", show_default=False)
]
DescriptionOption = Annotated[
    Path | None, typer.Option("--preprocessing", help="A TOML file that describes weights which do not describe themselves.")
]
ImagesArgument = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="A folder of photos, flat or with one folder per class.")
]
OutOption = Annotated[Path, typer.Option(help="The new folder for the atlas.")]
LayersOption = Annotated[str, typer.Option(help="Layers, like conv1,conv5, or all.  [default: the convolutional layers]")]
UnitsOption = Annotated[str, typer.Option(help="Units of each layer, like 0-15,40.  [default: all]")]
TopOption = Annotated[int, typer.Option(min=1, help="Photos shown of each unit.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Photos that go through the network at once.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Threads that decode photos.  [default: one per core]")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class _Stopped(BaseException):
    """Ctrl-C, or the end that another program asks for. (Of a KeyboardInterrupt click would make its own "Aborted!".)"""

    def __init__(self, number: int) -> None:
        super().__init__("Stopped.")
        self.code = 128 + number


def main() -> None:
    """Run the command line; exit code 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C, 143 by SIGTERM."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # odd photos are named at the end
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except DeconvnetError as error:
        _fail(error, 1)
    except _Stopped as stopped:
        _fail(stopped, stopped.code)
    except torch.cuda.OutOfMemoryError:
        _fail("The device has too little memory for this: pass --device cpu (or, to atlas, a smaller --batch-size).", 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _fail(message: object, code: int) -> None:
    if not isinstance(message, _Stopped) or Processes.here().first:  # all processes are stopped together; one says so
        notes = getattr(message, "__notes__", [])  # what an error leaves behind, and what to do with it
        _print(" ".join(["deconvnet:", str(message), *notes]), sys.stderr)
    sys.exit(code)


def _example(*lines: str) -> str:
    return "**Example**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


@app.command(epilog=_example("deconvnet networks", "deconvnet networks torchvision:resnet18"))
def networks(
    network: Annotated[
        str, typer.Argument(metavar="[NETWORK]", help="Only this one: NAME, torchvision:NAME or FILE.py:FUNCTION.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List what can be looked at: networks, where their weights come from, and their layers."""
    found = {name: describe_network(name) for name in ([network] if network else ARCHITECTURES)}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for name, described in found.items():
        console.print(f"\n[bold]{name}[/bold]: {described['summary']}")
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


@app.command(epilog=_example("deconvnet look alexnet:imagenet1k dog.jpg --out dog.png"))
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
    with replacing(out, ".png", ".pdf", ".svg") as file:
        result = look_at(_network(network, preprocessing, device), _photo(image), image.name, units)
        result.figure().savefig(file)
    _say(as_json, result.as_json(), f"Wrote {out}.")


@app.command(
    epilog=_example(
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
    unit: Annotated[int | None, typer.Option(help="The unit.  [default: the one that the photo drives most]")] = None,
    position: Annotated[
        str,
        typer.Option(metavar="ROW,COLUMN", help="Place in its feature map.  [default: its strongest]", show_default=False),
    ] = "",
    rules: Annotated[str, typer.Option(help=f"What is done on the way down: {', '.join(RULES)}.")] = "deconvnet",
    preprocessing: DescriptionOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Project one activation of one photo down to pixel space."""
    with replacing(out, ".png", ".npy") as file:
        way_down = rule_set(rules)  # before the network is loaded
        net = _network(network, preprocessing, device)
        x = net.preprocess(_photo(image))[None]
        if unit is None:
            unit = strongest_unit(net, x, layer)
        at = torch.tensor([_numbers(position, 2, "--position")]) if position else None
        projected = project_each(net, x, layer, torch.tensor([unit]), at, rules=way_down)
        value, row, column = (found.item() for found in (projected.values, projected.rows, projected.columns))
        if file.suffix == ".npy":
            np.save(file, projected.pixels[0].cpu().numpy())
        else:
            heading = f"{layer} · unit {unit} · position {row},{column} · activation {value:.4g}"
            if rules != "deconvnet":
                heading += f" · {rules}"
            projection_picture(projected.pixels[0], net.preprocessing.pixels(x)[0], heading, net.full_name).save(file)
    result = {
        "network": net.full_name,
        "layer": layer,
        "unit": unit,
        "row": row,
        "column": column,
        "value": value,
        "rules": rules,
    }
    _say(as_json, result, f"Wrote {out}: {layer} unit {unit} at {row},{column}, activation {value:.4g}.")


@app.command(
    epilog=_example(
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
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: DescriptionOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find what every unit responds to: its strongest activations over a folder of photos, each with its projection.

    If it is stopped, or killed, the same command goes on where it was.
    """
    net, processes = _network(network, preprocessing, device), Processes.here()
    build_atlas(
        net,
        images,
        out,
        _layers(layers, net),
        _ranges(units) if units else None,
        top,
        processes,
        batch_size=batch_size,
        workers=workers,
        progress=processes.first,
    )
    if processes.first:
        _say_atlas(as_json, Atlas(out))


@app.command(
    epilog=_example(
        "deconvnet mine alexnet:imagenet1k photos/ --part 1/2 --out half-1.safetensors",
        "deconvnet merge alexnet:imagenet1k photos/ half-1.safetensors half-2.safetensors --out atlas/",
    )
)
def mine(
    network: NetworkArgument,
    images: ImagesArgument,
    out: Annotated[Path, typer.Option(help="The file for what is found (.safetensors).")],
    part: Annotated[str, typer.Option(metavar="K/N", help="Which of N parts of the photos.")] = "1/1",
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
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} should end in .safetensors.")
    number, of = _numbers(part, 2, "--part", "/")
    net, processes, photos = _network(network, preprocessing, device), Processes.here(), find_photos(images)
    state = mine_part(
        net,
        photos,
        out.absolute(),
        (number, of),
        _layers(layers, net),
        top,
        processes,
        batch_size=batch_size,
        workers=workers,
        progress=processes.first,
    )
    if processes.first:
        print(f"Wrote {out}: {state.read:,} of {len(photos):,} photos.")


@app.command(
    epilog=_example("deconvnet merge alexnet:imagenet1k photos/ half-1.safetensors half-2.safetensors --out atlas/")
)
def merge(
    network: NetworkArgument,
    images: ImagesArgument,
    parts: Annotated[list[Path], typer.Argument(metavar="PART…", help="What `deconvnet mine` wrote: all parts.")],
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
    merge_atlas(
        _network(network, preprocessing, device),
        images,
        parts,
        out,
        _ranges(units) if units else None,
        batch_size=batch_size,
        workers=workers,
        progress=True,
    )
    _say_atlas(as_json, Atlas(out))


@app.command(
    epilog=_example("deconvnet demo --network alexnet:imagenet1k", "deconvnet demo --network alexnet2012:trunk.safetensors")
)
def demo(
    network: Annotated[str, typer.Option(metavar="NETWORK", help=_NETWORK_HELP)] = "",
    out: Annotated[Path, typer.Option(help="The new folder for photos and atlas.")] = Path("demo"),
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an atlas of scikit-image's photos, cut into a few hundred views: a first try that needs no data."""
    if not network:
        raise UsageError(
            "No network comes with deconvnet yet: pass --network alexnet:imagenet1k, which downloads 233 MB once, or "
            "--network alexnet2012:PATH with weights that you have."
        )
    if (out / "atlas").exists():
        raise UsageError(f"{out / 'atlas'} exists already: choose another --out, or remove it first.")
    net = _network(network, None, device)
    write_views(out / "photos")
    _say_atlas(as_json, Atlas.build(net, out / "photos", out / "atlas", progress=True))


def _network(name: str, preprocessing: Path | None, device: str) -> Network:
    if not device:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and Processes.here().count > 1:  # one for each of the processes on this machine
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % max(1, torch.cuda.device_count())}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device {device!r} here ({str(error).splitlines()[0]}): pass --device cpu.") from None
    return load(name, preprocessing=preprocessing).to(device)


def _photo(file: Path) -> Image.Image:
    try:
        return read_image(file)
    except UnreadableImage as error:
        raise DeconvnetError(f"{file} {error}.") from None


def _numbers(text: str, count: int, option: str, between: str = ",") -> list[int]:
    try:
        numbers = [int(number) for number in text.split(between)]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UsageError(f"{option} takes {count} numbers with {between!r} between them, not {text!r}.")
    return numbers


def _layers(text: str, network: Network) -> list[str] | None:
    if text == "all":
        return list(network.layers)
    return [name.strip() for name in text.split(",")] if text else None


def _ranges(text: str) -> list[int]:
    """Numbers and ranges such as 0-15,40."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.strip().isdecimal() and (last or first).strip().isdecimal()):
            raise UsageError(f"--units takes numbers and ranges such as 0-15,40, not {text!r}.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _say_atlas(as_json: bool, book: Atlas) -> None:
    images = book.description["images"]
    lines = [
        f"Wrote {book.folder}: {len(book.units):,} units over {images['read']:,} photos. Open {book.folder / 'index.html'}."
    ]
    if images["ignored"]:
        lines.append(f"{len(images['ignored'])} files are not photos by their name: {_some(images['ignored'])}.")
    if images["skipped"]:
        lines.append(f"{len(images['skipped'])} photos could not be read and were skipped:")
        lines += [f"  {skipped['path']} {skipped['reason']}" for skipped in images["skipped"]]
    _say(as_json, {"atlas": str(book.folder), **book.description}, *lines)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _say(as_json: bool, result: dict[str, Any], *lines: str) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for line in lines:
        _print(line, sys.stdout)


def _print(line: str, to: TextIO) -> None:
    """Print one line that may name files, to a terminal that may not know all their letters."""
    encoding = to.encoding or "utf-8"
    print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=to)
