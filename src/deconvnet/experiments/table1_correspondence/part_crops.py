"""Images cropped to an object with known parts, and where masks can be put on it (section 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.images import read_required_image
from deconvnet.experiments.table1_correspondence.landmarks import Landmarks, Point
from deconvnet.models import Network

#: Width of the view, and of the region in which random masks lie, relative to the extent of the parts' centres.
_VIEW_SCALE, _OBJECT_SCALE = 2.4, 2.0


@dataclass(frozen=True)
class PartCrop:
    """An image cropped to its object, as the network's input, with the positions of its parts.

    Masks are squares of `mask_size` pixels, identified by the row and column of their upper left corner.
    """

    path: str
    x: Tensor
    """(3, crop, crop)"""
    parts: dict[str, Point]
    """Centre (x, y) of each part, in pixels of the crop."""

    def part_corners(self, mask_size: int) -> np.ndarray:
        """(parts, 2) the corners of masks centred on the parts, shifted inside the crop."""
        return np.clip(np.rint(self._centres - mask_size / 2).astype(np.int64), 0, self.x.shape[1] - mask_size)

    def free_corners(self, mask_size: int) -> np.ndarray:
        """(rows, columns) bool: whether a mask with that corner lies on the object and overlaps no mask of a part."""
        last_corner = self.x.shape[1] - mask_size
        rows, columns = np.mgrid[: last_corner + 1, : last_corner + 1]
        free = np.ones(rows.shape, dtype=bool)
        low, high = self._centres.min(axis=0), self._centres.max(axis=0)
        if (high > low).any():  # otherwise the parts do not tell how large the object is
            middle, radius = (low + high) / 2, _OBJECT_SCALE / 2 * (high - low).max()
            edges = middle - radius, middle + radius - mask_size
            first, last = (np.clip(np.rint(edge), 0, last_corner) for edge in edges)
            free &= (first[0] <= rows) & (rows <= last[0]) & (first[1] <= columns) & (columns <= last[1])
        for row, column in self.part_corners(mask_size):
            free &= np.maximum(np.abs(rows - row), np.abs(columns - column)) >= mask_size
        return free

    @property
    def _centres(self) -> np.ndarray:
        """(parts, 2) rows and columns."""
        return np.array([(y, x) for x, y in self.parts.values()])


def crop_to_parts(network: Network, image_set: ImageSet, index: int, landmarks: Landmarks) -> PartCrop:
    """Crop an image to a square around its parts, 2.4 times as wide as their extent, or as the image allows.

    Raises `DeconvnetError` for an image that cannot be read or that does not fit the landmarks.
    """
    file = image_set.file(index)
    image = read_required_image(image_set, index)
    if landmarks.size is not None and landmarks.size != image.size:
        raise DeconvnetError(
            f"The landmarks of {file} are of {landmarks.size[0]}×{landmarks.size[1]} pixels, but it has "
            f"{image.size[0]}×{image.size[1]}."
        )
    for name, (x, y) in landmarks.parts.items():
        if not (0 <= x < image.size[0] and 0 <= y < image.size[1]):
            raise DeconvnetError(
                f"The {name} of {file} is at {x:g}, {y:g}, outside of its {image.size[0]}×{image.size[1]} pixels."
            )
    preprocessing = network.preprocessing.with_views("cropping images around parts")
    resize, crop = preprocessing.resize, preprocessing.crop
    left, top, side = _square_around(list(landmarks.parts.values()), image.size, resize / crop)
    resized = image.convert("RGB").resize(
        (resize, resize), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    scale, offset = resize / side, round((resize - crop) / 2)
    parts = {name: ((x - left) * scale - offset, (y - top) * scale - offset) for name, (x, y) in landmarks.parts.items()}
    for name, centre in parts.items():
        if not all(0 <= coordinate < crop for coordinate in centre):
            raise DeconvnetError(f"The {name} of {file} is too near its border to be seen: leave this photo out.")
    return PartCrop(image_set.paths[index], network.preprocess(resized), parts)


def _square_around(points: list[Point], image_size: tuple[int, int], margin: float) -> tuple[float, float, float]:
    """Left, top and side of the square of an image around `points`; the view is its central part, smaller by `margin`."""
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    extent = float((high - low).max())
    side = min(_VIEW_SCALE * extent * margin, *map(float, image_size)) or float(min(image_size))
    left, top = (
        float(np.clip(middle - side / 2, 0, length - side))
        for middle, length in zip((low + high) / 2, image_size, strict=True)
    )
    return left, top, side


def random_corners(crop: PartCrop, mask_size: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, 2) corners of random masks on the object, off its parts. Raises `DeconvnetError` if there is no room."""
    corners = np.argwhere(crop.free_corners(mask_size))
    if not len(corners):
        raise DeconvnetError(f"There is no room for random masks beside the parts of {crop.path}: pass a smaller --mask.")
    chosen: np.ndarray = rng.choice(corners, draws)
    return chosen


def translated_corners(crops: Sequence[PartCrop], part: int, mask_size: int) -> list[np.ndarray]:
    """For each possible translation of a part's masks, the same in all images, their corners (images, 2).

    A corner is −1, −1 where the translated mask leaves the object or overlaps a part. Translations are multiples of half a
    mask; only those that fit in at least half of the images, and in at least two, are possible.
    """
    view_size = crops[0].x.shape[1]
    step = max(mask_size // 2, view_size // 16, 1)
    offsets = np.arange(-(view_size // step) * step, view_size, step)
    part_corners = np.stack([crop.part_corners(mask_size)[part] for crop in crops])
    free_corners = [crop.free_corners(mask_size) for crop in crops]
    translations = []
    for offset in np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 2):
        corners = part_corners + offset
        for index, ((row, column), free) in enumerate(zip(corners, free_corners, strict=True)):
            inside = 0 <= row < len(free) and 0 <= column < len(free)
            if not (inside and free[row, column]):
                corners[index] = -1
        if 2 * (corners[:, 0] >= 0).sum() >= max(len(crops), 4):
            translations.append(corners)
    return translations
