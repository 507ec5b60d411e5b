"""The command `pack`: decode a set of images once, to 256×256 pixels in one file."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import JsonOption, WorkersOption, check_exists
from deconvnet.cli.print_results import describe_skipped, print_result


@app.command(epilog=example("deconvnet pack imagenet/ --out packed/", "deconvnet pack photos/ --out packed/"))
def pack(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="A folder of photos, or with train and val in it, or a tar file.", callback=check_exists
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new folder for the packed set, or for the two.")],
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decode photos once, for all: 256×256 pixels of each in one file, which training and mining read fast.

    IMAGES is a folder of photos, flat or with one folder per class; or a folder with train/ and val/; or one with ImageNet's
    ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which are read without unpacking them. Where ImageNet's photos for
    validation lie in no class folders, ILSVRC2012_devkit_t12.tar.gz, or the folder that it unpacks to, has to lie in IMAGES
    too (or beside it, if IMAGES is the validation set itself).

    If it is stopped, or killed, the same command goes on where it was.
    """
    from deconvnet.data import find_splits
    from deconvnet.data import pack as pack_sets

    packed = pack_sets(find_splits(images, progress=True), out, workers=workers, progress=True)
    lines = []
    for image_set in packed.values():
        classes = f" of {len(image_set.classes):,} classes" if image_set.classes else ""
        lines.append(f"Wrote {image_set.root}: {len(image_set):,} photos{classes}.")
        lines += describe_skipped(image_set.manifest["ignored"], image_set.manifest["skipped"])
    print_result(
        as_json, {"sets": [{"folder": str(image_set.root), **image_set.manifest} for image_set in packed.values()]}, *lines
    )
