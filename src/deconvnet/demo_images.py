"""Images for a first try without a data set or a network connection: those that scikit-image bundles."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

#: Images in scikit-image's package whose authors released them to the public domain or under CC0.
IMAGE_NAMES = (
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

#: Sides of the square views, as fractions of an image's shorter side; neighbouring views overlap by half.
SCALES = (1.0, 0.6, 0.36)

#: Smallest side of a view, in pixels; smaller ones would show the network only blur.
MIN_VIEW_SIZE = 96

#: Larger views are resized to this side, in pixels.
MAX_VIEW_SIZE = 256


def demo_image(name: str) -> Image.Image:
    """One of `IMAGE_NAMES`, as RGB."""
    import skimage.data  # slow to import

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def write_views(folder: Path) -> int:
    """Cut each image into overlapping square views at several scales, saved in a folder per image; returns their number."""
    count = 0
    for name in IMAGE_NAMES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for view, view_name in _views(demo_image(name)):
            view.save(folder / name / f"{view_name}.jpg", quality=95)
            count += 1
    return count


def _views(image: Image.Image) -> Iterator[tuple[Image.Image, str]]:
    """(view, name) for each scale, row and column."""
    for scale in SCALES:
        size = round(min(image.size) * scale)
        if size < MIN_VIEW_SIZE:
            continue
        for row, top in enumerate(_window_starts(image.height, size)):
            for column, left in enumerate(_window_starts(image.width, size)):
                view = image.crop((left, top, left + size, top + size))
                if size > MAX_VIEW_SIZE:
                    view = view.resize((MAX_VIEW_SIZE, MAX_VIEW_SIZE), Image.Resampling.LANCZOS)
                yield view, f"{scale:.2f}-{row:02d}-{column:02d}"


def _window_starts(length: int, size: int) -> list[int]:
    """Evenly spaced starts of windows of `size` that cover `length` and overlap by half or a little more."""
    steps = -(-2 * (length - size) // size)
    return [round(step * (length - size) / max(steps, 1)) for step in range(steps + 1)]
