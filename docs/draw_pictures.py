"""Draw the pictures of the README from scikit-image's photos.

    python docs/draw_pictures.py alexnet2012:PATH [ATLAS]

ATLAS is an atlas that `deconvnet demo --network alexnet2012:PATH` has made (default: demo/atlas).
"""

import sys
from pathlib import Path

from PIL import Image

from deconvnet import Atlas, load
from deconvnet.demo import demo_photo
from deconvnet.experiments.look import look

PICTURES = Path(__file__).parent / "pictures"

#: Picked by eye: units whose patches a reader recognises at once.
CHOSEN = {"conv3": [66, 189, 280, 313]}


def main(network: str, atlas: str = "demo/atlas") -> None:
    """Write the pictures, small enough for a page."""
    book = Atlas(atlas)
    for layer, units in CHOSEN.items():
        save(book.figure(layer, units), f"alexnet2012-{layer}.webp", 1500)
    figure = look(load(network), demo_photo("chelsea"), "chelsea (scikit-image)").figure()
    drawn = PICTURES / "look.png"
    figure.savefig(drawn)
    with Image.open(drawn) as picture:
        save(picture.convert("RGB"), "alexnet2012-look.webp", 1600)
    drawn.unlink()


def save(picture: Image.Image, name: str, width: int) -> None:
    """Scale down to `width` pixels and write as WebP."""
    height = round(picture.height * width / picture.width)
    picture.resize((width, height), Image.Resampling.LANCZOS).save(PICTURES / name, quality=85, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
