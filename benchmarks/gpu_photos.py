"""The photos that `on_gpu.py` measures with: a folder of JPEGs, and a packed set with train/ and val/.

    python benchmarks/gpu_photos.py OUT [--images IMAGENETTE] [--jpegs 1000] [--packed 4000]

IMAGENETTE is a folder with train/ and val/, or what `deconvnet pack` makes of it, which is used where it lies; the JPEGs
are some of val/. Without it both are scikit-image's views, several times if there are fewer, with val/ the same as train/.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from side_by_side import jpeg_folder

from deconvnet.data import PackedImageSet, find_images, find_splits, pack


def write_jpegs(image_set: PackedImageSet, count: int, folder: Path) -> None:
    """Evenly spread photos of a packed set, in class folders."""
    for number in range(min(count, len(image_set))):
        index = number * len(image_set) // min(count, len(image_set))
        file = folder / (image_set.labels[index] or "photos") / f"{index:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        image_set.read(index).save(file, quality=95)


def main(
    out: Annotated[Path, typer.Argument(help="A new folder, for jpegs/ and packed/.")],
    images: Annotated[Path | None, typer.Option(help="A folder with train/ and val/, packed or not.")] = None,
    jpegs: Annotated[int, typer.Option(min=1, help="How many JPEGs.")] = 1000,
    packed: Annotated[int, typer.Option(min=1, help="How many photos of each packed set, if they are views.")] = 4000,
) -> None:
    out.mkdir(parents=True)
    if images is None:
        with jpeg_folder(None, max(jpegs, packed)) as views:
            pack({"train": find_images(views), "val": find_images(views)}, out / "packed")
            with jpeg_folder(views, jpegs) as few:
                shutil.copytree(few, out / "jpegs")
        return
    for name in ("train", "val"):
        if not (images / name).is_dir():
            raise typer.BadParameter(f"There is no folder {images / name}.")
    val = find_images(images / "val")
    if isinstance(val, PackedImageSet):
        (out / "packed").symlink_to(images.resolve())
        write_jpegs(val, jpegs, out / "jpegs")
    else:
        pack(find_splits(images), out / "packed")
        with jpeg_folder(images / "val", min(jpegs, len(val))) as few:
            shutil.copytree(few, out / "jpegs")


if __name__ == "__main__":
    typer.run(main)
