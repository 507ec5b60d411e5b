"""Make Table 1: mask the same part in several photos, and see whether that changes features alike (section 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.correspondence import Correspondence, Score
from deconvnet.experiments.landmarks import Landmarks, Point, read_landmarks
from deconvnet.experiments.occluders import Occluder
from deconvnet.experiments.writing import write_result
from deconvnet.images import Photos, UnreadableImage, find_photos
from deconvnet.networks import Network
from deconvnet.progress import bar

#: How much wider than the parts themselves a view is, and the region in which random masks lie.
_VIEW, _OBJECT = 2.4, 2.0

#: Changes smaller than this share of a layer's largest activation are rounding.
_ROUNDING = 1e-6

#: Random masks that are pictured.
_PICTURED = 3


@dataclass(frozen=True)
class _View:
    """A photo cut to its object, with the parts where they are in the network's input."""

    x: Tensor
    """(3, crop, crop)"""
    parts: dict[str, Point]
    """(x, y) in pixels of the view."""


def correspond(
    network: Network,
    images: Path | str,
    landmarks: Path | str,
    layers: Sequence[str] | None = None,
    *,
    mask: float = 0.2,
    masks: int = 1,
    draws: int = 10,
    permutations: int = 9_999,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> Correspondence:
    """Table 1 for the photos of the folder `images` that the file `landmarks` knows.

    Each photo is cut to a square around its parts, 2.4 times as wide as they are, as the paper's dogs fill theirs. A part is
    masked by a square of `mask` times the view's width around it, 0 in the network's input; `masks` of them, moved at random
    by up to an eighth of their width, if more than one. With x the features of a layer for the photo and x̃ those for the
    masked one, the change is ε = x − x̃, and of a set of masks, one from each photo i,

        Δ = mean over i ≠ j of H(sign εᵢ, sign εⱼ)

    where H is the share of components that differ and sign is −1, 0 or 1: section 4.3's sum, divided by the number of its
    terms and of components. The lower, the more consistent. `draws` random masks of the same size lie where the object is,
    off the parts. Whether a part differs from them is asked by a permutation test: were a part's masks like any others, it
    would not matter which of a photo's masks (the part's and the random ones) are called the part's. p is how often Δ is
    as far out, to either side, when that is drawn anew in each photo, `permutations` times. It allows for pairs that share
    photos.

    Parts of faces that fill their views alike lie at about the same place, and masks at one place change the same
    activations, whatever is under them. So there is another control, which the paper does not have: for each pair of photos
    masks at one place in both, at all places in steps of half a mask where they touch no part of either.

    `layers` are names; by default the last convolutional and the last hidden one (the paper's 5 and 7).

    Raises `DeconvnetError` for files that cannot be read, landmarks outside of their photo or fewer than two photos,
    `UsageError` for a layer that the network does not have and senseless numbers.
    """
    _check(mask, masks, draws, permutations, batch_size)
    names = list(
        layers or dict.fromkeys((network.convolutional_layers[-1:] or list(network.layers)) + list(network.layers)[-1:])
    )
    for name in names:
        network.layer(name)
    photos, known = _chosen(find_photos(images), read_landmarks(Path(landmarks)))
    views = [_view(network, photos, index, known[path]) for index, path in enumerate(photos.paths)]
    side = max(1, round(mask * network.preprocessing.crop))
    random = np.random.default_rng(seed)
    corners = [_corners(view, path, side, masks, draws, random) for view, path in zip(views, photos.paths, strict=True)]
    grids = [_grid(view, side) for view in views]
    parts = list(views[0].parts)
    occluder = Occluder(size=side)
    signs: dict[str, list[Tensor]] = {name: [] for name in names}
    on_grid: dict[str, list[Tensor]] = {name: [] for name in names}
    with bar("masking", sum(map(len, corners)) + sum(map(len, grids)), progress) as advance:
        for view, own, grid in zip(views, corners, grids, strict=True):
            for name, found in _signs(network, view.x, torch.cat([own, grid]), occluder, names, batch_size).items():
                signs[name].append(found[: len(own)])
                on_grid[name].append(found[len(own) :])
            advance(len(own) + len(grid))
    scores = {}
    for name in names:
        scores[name] = _scores(torch.stack(signs[name]), parts, masks, draws, permutations, random)
        if one_place := _at_one_place(on_grid[name], grids):
            scores[name]["random, one place"] = one_place
    return Correspondence(
        network.full_name,
        network.digest,
        photos,
        side,
        masks,
        draws,
        permutations,
        seed,
        scores,
        np.stack(
            [
                _pictures(network, view.x, places, occluder, len(parts), masks)
                for view, places in zip(views, corners, strict=True)
            ]
        ),
        ["photo", *parts, *["random"] * min(draws, _PICTURED)],
    )


def write_correspondence(out: Path, network: Network, images: Path, landmarks: Path, **options: Any) -> Correspondence:
    """Write `correspondence.png` and `correspondence.json` to the new folder `out`; see `correspond`."""
    return write_result(out, "correspondence", lambda work: correspond(network, images, landmarks, **options))


def _check(mask: float, masks: int, draws: int, permutations: int, batch_size: int) -> None:
    if not 0 < mask < 1:
        raise UsageError(f"A mask is wider than 0 and narrower than the view (1), not {mask:g} of it.")
    for name, number in (
        ("masks", masks),
        ("random masks", draws),
        ("permutations", permutations),
        ("photos at once", batch_size),
    ):
        if number < 1:
            raise UsageError(f"{number} {name} are too few: pass 1 or more.")


def _chosen(photos: Photos, landmarks: dict[str, Landmarks]) -> tuple[Photos, dict[str, Landmarks]]:
    """The photos that the landmarks know. Raises `DeconvnetError` if one is missing or if they are fewer than two."""
    missing = sorted(set(landmarks) - set(photos.paths))
    if missing:
        raise DeconvnetError(f"The landmarks know {missing[0]}, which is not in {photos.root}.")
    if len(landmarks) < 2:
        raise DeconvnetError("A correspondence is between photos: pass the landmarks of two or more.")
    return Photos(photos.root, tuple(sorted(landmarks))), landmarks


def _view(network: Network, photos: Photos, index: int, landmarks: Landmarks) -> _View:
    file = photos.file(index)
    try:
        photo = photos.read(index)
    except UnreadableImage as error:
        raise DeconvnetError(f"{file} {error}.") from None
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
    return _View(network.preprocess(resized), parts)


def _square(points: list[Point], size: tuple[int, int], more: float) -> tuple[float, float, float]:
    """Left, top and side of the square of a photo whose central part (1/`more` of it) is the view."""
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    extent = float((high - low).max())
    side = min(_VIEW * extent * more, *map(float, size)) or float(min(size))
    left, top = (
        float(np.clip(middle - side / 2, 0, length - side)) for middle, length in zip((low + high) / 2, size, strict=True)
    )
    return left, top, side


def _corners(view: _View, path: str, side: int, masks: int, draws: int, random: np.random.Generator) -> Tensor:
    """Upper left corners (row, column) of a photo's own masks: of each part `masks`, then the random ones."""
    shifts = random.uniform(-side / 8, side / 8, (len(view.parts), masks, 2)) if masks > 1 else 0.0
    parts = _around(view, side, shifts).reshape(-1, 2)
    places = np.argwhere(_free(view, side))
    if not len(places):
        raise DeconvnetError(f"There is no room for random masks beside the parts of {path}: pass a smaller --mask.")
    return torch.from_numpy(np.concatenate([parts, random.choice(places, draws)]))


def _grid(view: _View, side: int) -> Tensor:
    """Upper left corners (places, 2) of masks that touch no part, of those that stand in steps of half a mask."""
    step = max(1, side // 2)
    return torch.from_numpy(np.argwhere(_free(view, side)[::step, ::step]) * step)


def _around(view: _View, side: int, shifts: np.ndarray | float = 0.0) -> np.ndarray:
    """Upper left corners (parts, masks, 2) of masks around the parts, moved into the view where they stick out of it."""
    centres = np.array([(y, x) for x, y in view.parts.values()])
    return _inside(np.rint(centres[:, None] + shifts - side / 2).astype(np.int64), view.x.shape[1] - side)


def _free(view: _View, side: int) -> np.ndarray:
    """(rows, columns) bool, whether the corner of a random mask may be there: it lies on the object and touches no part."""
    most = view.x.shape[1] - side
    rows, columns = np.mgrid[: most + 1, : most + 1]
    parts = _around(view, side)[:, 0]
    free = np.ones(rows.shape, dtype=bool)
    if len(parts) > 1:  # of one part alone it cannot be told how large the object is
        centres = np.array([(y, x) for x, y in view.parts.values()])
        middle, reach = (centres.min(axis=0) + centres.max(axis=0)) / 2, _OBJECT / 2 * np.ptp(centres, axis=0).max()
        low, high = _inside(np.rint(middle - reach), most), _inside(np.rint(middle + reach - side), most)
        free &= (low[0] <= rows) & (rows <= high[0]) & (low[1] <= columns) & (columns <= high[1])
    for row, column in parts:
        free &= np.maximum(np.abs(rows - row), np.abs(columns - column)) >= side
    return free


def _inside(corners: np.ndarray, most: int) -> np.ndarray:
    return np.clip(corners, 0, most)


def _signs(
    network: Network, x: Tensor, corners: Tensor, occluder: Occluder, layers: list[str], batch_size: int
) -> dict[str, Tensor]:
    """The signs of what each mask takes from each layer's activations, (masks, activations) int8."""
    windows = occluder.windows(x, corners, network.preprocessing)
    inputs = x.repeat(1 + len(windows), 1, 1, 1)
    for masked, window, (row, column) in zip(inputs[1:], windows, corners.tolist(), strict=True):
        masked[:, row : row + occluder.size, column : column + occluder.size] = window
    features: dict[str, list[Tensor]] = {name: [] for name in layers}
    with torch.inference_mode():
        for part in torch.split(inputs, batch_size):
            network.observe(part, layers, lambda name, maps: features[name].append(maps.flatten(1).float().cpu().clone()))
    found = {}
    for name, parts in features.items():
        values = torch.cat(parts)
        change = values[:1] - values[1:]
        found[name] = change.sign().where(change.abs() > _ROUNDING * values.abs().max(), 0.0).to(torch.int8)
    return found


def distances(signs: Tensor) -> Tensor:
    """The share of components in which rows of signs (N, components), −1, 0 or 1, differ: (N, N) float64."""
    same = sum((signs == value).float() @ (signs == value).float().T for value in (-1, 0, 1))
    return 1 - torch.as_tensor(same).double() / signs.shape[1]


def _scores(
    signs: Tensor, parts: list[str], masks: int, draws: int, permutations: int, random: np.random.Generator
) -> dict[str, Score]:
    """Of one layer; `signs` are (photos, masks, activations), the masks those of each part, then the random ones."""
    photos, kinds, _ = signs.shape
    apart = distances(signs.flatten(0, 1)).view(photos, kinds, photos, kinds).numpy()
    others = ~np.eye(photos, dtype=bool)
    first_random = len(parts) * masks
    scores = {}
    for number, part in enumerate(parts):
        own = range(number * masks, (number + 1) * masks)
        values = np.concatenate([apart[:, mask, :, mask][others] for mask in own])
        candidates = np.array([*own, *range(first_random, kinds)])
        chosen = candidates[random.random((permutations, photos, len(candidates))).argsort(axis=2)[..., :masks]]
        null = np.mean([[_mean_distance(apart, row) for row in chosen[..., mask]] for mask in range(masks)], axis=0)
        scores[part] = Score(float(values.mean()), float(values.std()), _two_sided(float(values.mean()), null))
    values = np.concatenate([apart[:, mask, :, mask][others] for mask in range(first_random, kinds)])
    scores["random"] = Score(float(values.mean()), float(values.std()), None)
    return scores


def _at_one_place(signs: list[Tensor], grids: list[Tensor]) -> Score | None:
    """Of masks at one place in both photos of a pair; None if no pair has a place for them.

    `signs` (places, activations) are those of each photo's masks at its `grids` (places, 2).
    """
    found = []
    for one, other in combinations(range(len(grids)), 2):
        same = (grids[one][:, None] == grids[other]).all(dim=2)
        first, second = same.nonzero().unbind(dim=1)
        found.append((signs[one][first] != signs[other][second]).double().mean(dim=1))
    values = torch.cat(found)
    return Score(float(values.mean()), float(values.std(correction=0)), None) if len(values) else None


def _mean_distance(apart: np.ndarray, chosen: np.ndarray) -> float:
    """Δ of one mask of each photo; `apart` is (photos, masks, photos, masks)."""
    photos = np.arange(len(chosen))
    between = apart[photos, chosen][:, photos, chosen]
    return float((between.sum() - between.trace()) / (len(chosen) * (len(chosen) - 1)))


def _two_sided(value: float, null: np.ndarray) -> float:
    """How often chance is as far out as a value, to the side on which that is rarer, twice."""
    lower, higher = (null <= value + 1e-12).sum(), (null >= value - 1e-12).sum()
    return min(1.0, 2 * (1 + int(min(lower, higher))) / (1 + len(null)))


def _pictures(network: Network, x: Tensor, corners: Tensor, occluder: Occluder, parts: int, masks: int) -> np.ndarray:
    """The photo, each part masked once, and some random masks."""
    shown = [*range(0, parts * masks, masks), *range(parts * masks, min(len(corners), parts * masks + _PICTURED))]
    pictures = x.repeat(1 + len(shown), 1, 1, 1)
    windows = occluder.windows(x, corners[shown], network.preprocessing)
    for picture, window, (row, column) in zip(pictures[1:], windows, corners[shown].tolist(), strict=True):
        picture[:, row : row + occluder.size, column : column + occluder.size] = window
    return network.preprocessing.pixels(pictures)
