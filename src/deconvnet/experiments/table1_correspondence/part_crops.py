"""Photos cut to an object whose parts are known, and where masks may lie on it (section 4.3)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.images import read_photo
from deconvnet.experiments.table1_correspondence.landmarks import Landmarks, Point
from deconvnet.models import Network

#: How much wider than the parts themselves a view is, and the region in which random masks lie.
_VIEW, _OBJECT = 2.4, 2.0


@dataclass(frozen=True)
class PartView:
    """A photo cut to its object, with the parts where they are in the network's input."""

    path: str
    x: Tensor
    """(3, crop, crop)"""
    parts: dict[str, Point]
    """(x, y) in pixels of the view."""

    def corners(self, side: int) -> np.ndarray:
        """Upper left corners (parts, 2), rows and columns, of masks around the parts, inside the view."""
        return np.clip(np.rint(self._centres - side / 2).astype(np.int64), 0, self.x.shape[1] - side)

    def free(self, side: int) -> np.ndarray:
        """(rows, columns) bool, whether the corner of another mask may be there: on the object, touching no part."""
        most = self.x.shape[1] - side
        rows, columns = np.mgrid[: most + 1, : most + 1]
        free = np.ones(rows.shape, dtype=bool)
        low, high = self._centres.min(axis=0), self._centres.max(axis=0)
        if (high > low).any():  # or else it cannot be told how large the object is
            middle, reach = (low + high) / 2, _OBJECT / 2 * (high - low).max()
            first, last = (np.clip(np.rint(edge), 0, most) for edge in (middle - reach, middle + reach - side))
            free &= (first[0] <= rows) & (rows <= last[0]) & (first[1] <= columns) & (columns <= last[1])
        for row, column in self.corners(side):
            free &= np.maximum(np.abs(rows - row), np.abs(columns - column)) >= side
        return free

    @property
    def _centres(self) -> np.ndarray:
        return np.array([(y, x) for x, y in self.parts.values()])


def part_view(network: Network, image_set: ImageSet, index: int, landmarks: Landmarks) -> PartView:
    """Cut a photo to a square around its parts, 2.4 times as wide as they are.

    Raises `DeconvnetError` for a photo that cannot be read or that landmarks do not fit.
    """
    file = image_set.file(index)
    photo = read_photo(image_set, index)
    if landmarks.size is not None and landmarks.size != photo.size:
        raise DeconvnetError(
            f"The landmarks of {file} are of {landmarks.size[0]}×{landmarks.size[1]} pixels, but it has "
            f"{photo.size[0]}×{photo.size[1]}."
        )
    for name, (x, y) in landmarks.parts.items():
        if not (0 <= x < photo.size[0] and 0 <= y < photo.size[1]):
            raise DeconvnetError(
                f"The {name} of {file} is at {x:g}, {y:g}, outside of its {photo.size[0]}×{photo.size[1]} pixels."
            )
    preprocessing = network.preprocessing
    left, top, side = _square(list(landmarks.parts.values()), photo.size, preprocessing.resize / preprocessing.crop)
    resized = photo.convert("RGB").resize(
        (preprocessing.resize, preprocessing.resize), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    scale, offset = preprocessing.resize / side, round((preprocessing.resize - preprocessing.crop) / 2)
    parts = {name: ((x - left) * scale - offset, (y - top) * scale - offset) for name, (x, y) in landmarks.parts.items()}
    for name, place in parts.items():
        if not all(0 <= value < preprocessing.crop for value in place):
            raise DeconvnetError(f"The {name} of {file} is too near its border to be seen: leave this photo out.")
    return PartView(image_set.paths[index], network.preprocess(resized), parts)


def _square(points: list[Point], size: tuple[int, int], more: float) -> tuple[float, float, float]:
    """Left, top and side of the square of a photo whose central part (1/`more` of it) is the view."""
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    extent = float((high - low).max())
    side = min(_VIEW * extent * more, *map(float, size)) or float(min(size))
    left, top = (
        float(np.clip(middle - side / 2, 0, length - side)) for middle, length in zip((low + high) / 2, size, strict=True)
    )
    return left, top, side


def random_corners(view: PartView, side: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """Upper left corners (draws, 2) of random masks. Raises `DeconvnetError` if there is no room for them."""
    places = np.argwhere(view.free(side))
    if not len(places):
        raise DeconvnetError(f"There is no room for random masks beside the parts of {view.path}: pass a smaller --mask.")
    chosen: np.ndarray = random.choice(places, draws)
    return chosen


def moved_corners(views: list[PartView], part: int, side: int) -> list[np.ndarray]:
    """Where the mask of a part may be moved to, by one step in all photos: for each step (photos, 2) corners, −1 where it
    leaves the object or touches a part. Only steps that half of the photos or more have room for, and two at least.
    """
    crop = views[0].x.shape[1]
    pace = max(side // 2, crop // 16, 1)
    steps = np.arange(-(crop // pace) * pace, crop, pace)
    starts = np.stack([view.corners(side)[part] for view in views])
    free = [view.free(side) for view in views]
    found = []
    for step in np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2):
        corners = starts + step
        for photo, (row, column) in enumerate(corners):
            inside = 0 <= row < len(free[photo]) and 0 <= column < len(free[photo])
            if not (inside and free[photo][row, column]):
                corners[photo] = -1
        if 2 * (corners[:, 0] >= 0).sum() >= max(len(views), 4):
            found.append(corners)
    return found
