"""Arguments and options shared by several commands, and parsing of their values.

No module of this package imports torch at its head: that takes seconds, and `--help`, `--version` and shell completion would
wait for it. Commands import what they need when they are called.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet.errors import DeconvnetError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from deconvnet.models import Network


def check_exists(paths: Any) -> Any:
    """Return a path, a list of paths or None as given; raise `DeconvnetError` for one that does not exist.

    A callback of arguments, so that a typo is reported before torch is imported.
    """
    for path in [paths] if isinstance(paths, Path) else paths or []:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise DeconvnetError(f"There is no file or folder {path}.") from None
        except (OSError, ValueError):  # whoever opens it says what is wrong
            pass
    return paths


#: The names in `deconvnet.projection.RULES`, for help texts.
RULE_NAMES = "deconvnet, overwrite, differentiated-norm, guided, gradient"

NETWORK_HELP = "NAME, NAME:WEIGHTS, torchvision:NAME, timm:NAME or FILE.py:FUNCTION, see `deconvnet networks`."
NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="One photo.", callback=check_exists)]
DeviceOption = Annotated[
    str, typer.Option(help="cpu, cuda or mps.  [default: cuda if there is one, else cpu]", show_default=False)
]
PreprocessingOption = Annotated[
    Path | None, typer.Option("--preprocessing", help="A TOML file that describes weights which do not describe themselves.")
]
ImagesArgument = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="A folder of photos, flat or with one folder per class, or a packed set.",
        callback=check_exists,
    ),
]
OutOption = Annotated[Path, typer.Option(help="The new folder for the atlas.")]
LayersOption = Annotated[str, typer.Option(help="Layers, like conv1,conv5, or all.  [default: the convolutional layers]")]
UnitsOption = Annotated[str, typer.Option(help="Units of each layer, like 0-15,40.  [default: all]")]
TopOption = Annotated[int, typer.Option(min=1, help="Photos shown of each unit.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Photos that go through the network at once.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Threads that read, and on a CPU compute.  [default: one per core]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def load_network(name: str, preprocessing: Path | None, device: str) -> "Network":
    """Load a network by its command-line name and move it to `device` (see `find_device`)."""
    from deconvnet.models import load

    device = find_device(device)  # before the network is loaded
    return load(name, preprocessing=preprocessing).to(device)


def find_device(device: str) -> str:
    """The requested device or, if `device` is empty, the best one, which becomes the current one.

    Raises `UsageError` if it does not exist.
    """
    import torch

    from deconvnet.distributed import local_device

    try:
        device = str(local_device(device or None))
        torch.empty(0, device=device)
        if device.startswith("cuda"):
            torch.cuda.set_device(device)  # where a module of the user's means by "cuda" the GPU of its process
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device {device!r} here ({str(error).splitlines()[0]}): pass --device cpu.") from None
    return device


def open_image(file: Path) -> "Image.Image":
    """Read one image as RGB. Raises `DeconvnetError`, with the file's name, if it cannot be read."""
    from deconvnet.data import UnreadableImage, read_image

    try:
        return read_image(file)
    except UnreadableImage as error:
        raise DeconvnetError(f"{file} {error}.") from None


def parse_numbers(text: str, count: int, option: str, separator: str = ",") -> list[int]:
    """Parse exactly `count` whole numbers. Raises `UsageError`, naming `option`, for anything else."""
    try:
        numbers = [int(number) for number in text.split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UsageError(f"{option} takes {count} numbers with {separator!r} between them, not {text!r}.")
    return numbers


def parse_layers(text: str, network: "Network") -> list[str] | None:
    """Layer names of "conv1,conv5" or "all"; None for "", which means the default."""
    if text == "all":
        return list(network.layers)
    return [name.strip() for name in text.split(",")] if text else None


def parse_ranges(text: str) -> list[int]:
    """Parse numbers and ranges such as "0-15,40". Raises `UsageError` for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.strip().isdecimal() and (last or first).strip().isdecimal()):
            raise UsageError(f"--units takes numbers and ranges such as 0-15,40, not {text!r}.")
        if len((last or first).strip()) > 6:
            raise UsageError(f"There is no unit {last or first}: no layer has so many.")
        if int(last or first) < int(first):
            raise UsageError(f"--units takes ranges from the lower number to the higher, not {part!r}.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
