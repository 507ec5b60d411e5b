"""Photos for a first try, without a data set and without a network connection: those that scikit-image comes with."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

#: Photos that lie in scikit-image's package and that their authors gave to the public domain or under CC0.
PHOTOS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "clock",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "retina",
    "rocket",
    "text",
)

#: Sides of the square views, as shares of a photo's shorter side; each overlaps its neighbour by half.
SCALES = (1.0, 0.6, 0.36)

#: Smaller views would show the network nothing but blur.
SMALLEST = 96


def demo_photo(name: str) -> Image.Image:
    """One of `PHOTOS`."""
    import skimage.data  # only the demo needs it

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def write_views(folder: Path) -> int:
    """Cut each photo into overlapping square views at several scales, a folder per photo; returns how many."""
    written = 0
    for name in PHOTOS:
        photo = demo_photo(name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for view, title in _views(photo):
            view.save(folder / name / f"{title}.jpg", quality=95)
            written += 1
    return written


def _views(photo: Image.Image) -> Iterator[tuple[Image.Image, str]]:
    for scale in SCALES:
        side = round(min(photo.size) * scale)
        if side < SMALLEST:
            continue
        for row, top in enumerate(_starts(photo.height, side)):
            for column, left in enumerate(_starts(photo.width, side)):
                view = photo.crop((left, top, left + side, top + side))
                if side > 256:
                    view = view.resize((256, 256), Image.Resampling.LANCZOS)
                yield view, f"{scale:.2f}-{row:02d}-{column:02d}"


def _starts(length: int, side: int) -> list[int]:
    """Evenly spaced starts of windows of `side` that cover `length` and overlap by half or a little more."""
    steps = -(-2 * (length - side) // side)
    return [round(step * (length - side) / max(steps, 1)) for step in range(steps + 1)]
