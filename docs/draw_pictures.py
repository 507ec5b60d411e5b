"""Draw the pictures of the README and of docs/paper.md from scikit-image's photos.

    python docs/draw_pictures.py alexnet2012:PATH [ATLAS]

ATLAS is an atlas that `deconvnet demo --network alexnet2012:PATH` has made (default: demo/atlas).
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from deconvnet import Atlas, Network, load
from deconvnet.atlas.render import font
from deconvnet.demo_images import demo_image
from deconvnet.experiments.look import look
from deconvnet.projection import RULES, display_scale, project_batch, to_pixels

PICTURES = Path(__file__).parent / "pictures"

#: Picked by eye: units whose patches a reader recognises at once.
CHOSEN = {"conv3": [66, 189, 280, 313]}

#: Layer, photo, unit: among the three that the photo drives most, picked by eye.
COMPARED = [
    ("conv2", "camera", 200),
    ("conv2", "chelsea", 77),
    ("conv3", "astronaut", 351),
    ("conv3", "coffee", 277),
    ("conv4", "chelsea", 199),
    ("conv4", "camera", 34),
    ("conv5", "astronaut", 228),
    ("conv5", "camera", 26),
]


def main(network: str, atlas: str = "demo/atlas") -> None:
    """Write the pictures, small enough for a page."""
    book = Atlas(atlas)
    for layer, units in CHOSEN.items():
        save(book.figure(layer, units), f"alexnet2012-{layer}.webp", 1500)
    figure = look(load(network), demo_image("chelsea"), "chelsea (scikit-image)").figure()
    drawn = PICTURES / "look.png"
    figure.savefig(drawn)
    with Image.open(drawn) as picture:
        save(picture.convert("RGB"), "alexnet2012-look.webp", 1600)
    drawn.unlink()
    rules = compare_rules(load(network))
    save(rules, "alexnet2012-rules.webp", rules.width)


def compare_rules(network: Network, side: int = 176, gap: int = 4) -> Image.Image:
    """A row for each of `COMPARED`: the patch, and its strongest activation of the unit projected by every rule set, each
    on its own grey scale.
    """
    left, header, columns = 118, 30, 1 + len(RULES)
    size = (left + columns * (side + gap), header + len(COMPARED) * (side + gap))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(["patch", *RULES]):
        draw.text((left + column * (side + gap) + side // 2, header // 2), title, "black", font(16), anchor="mm")
    for row, (layer, photo, unit) in enumerate(COMPARED):
        top = header + row * (side + gap)
        draw.multiline_text((4, top + 4), f"{layer}\nunit {unit}", "black", font(16))
        x = network.preprocess(demo_image(photo))[None]
        found = {name: project_batch(network, x, layer, torch.tensor([unit]), rules=rules) for name, rules in RULES.items()}
        place = int(found["deconvnet"].rows), int(found["deconvnet"].columns)
        x0, y0, x1, y1 = network.layer(layer).field.patch_box(*place)
        crops = [projected.pixels[0, :, y0:y1, x0:x1] for projected in found.values()]
        patch = network.preprocessing.denormalise(x)[0, y0:y1, x0:x1]
        tiles = [patch, *(to_pixels(crop, display_scale(crop)) for crop in crops)]
        for column, tile in enumerate(tiles):
            drawn = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
            page.paste(drawn, (left + column * (side + gap), top))
    return page


def save(picture: Image.Image, name: str, width: int) -> None:
    """Scale down to `width` pixels and write as WebP."""
    height = round(picture.height * width / picture.width)
    picture.resize((width, height), Image.Resampling.LANCZOS).save(PICTURES / name, quality=85, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
