"""Make Table 1: mask the same part in several photos, and see whether that changes features alike (section 4.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.data.packed import PackedImageSet
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.result import write_result
from deconvnet.experiments.table1_correspondence.hamming import (
    distances,
    of_pairs,
    p_value,
    permuted,
)
from deconvnet.experiments.table1_correspondence.landmarks import Landmarks, read_landmarks
from deconvnet.experiments.table1_correspondence.part_crops import (
    PartView,
    moved_corners,
    part_view,
    random_corners,
)
from deconvnet.experiments.table1_correspondence.result import Correspondence, Random, Score
from deconvnet.models import Network
from deconvnet.progress import Advance, bar
from deconvnet.tracing import paste

#: Changes smaller than this many times the rounding of a layer's largest activation are none.
_ROUNDING = 16

#: Random masks that are pictured.
_PICTURED = 3


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
    masked by a square of `mask` times the view's width around it, 0 in the network's input. With x the features of a layer
    for the photo and x̃ those for the masked one, the change is ε = x − x̃, and of a set of masks, one from each photo i,

        Δ = mean over pairs i < j of H(sign εᵢ, sign εⱼ)

    where H is the share of components that differ and sign is −1, 0 or 1: section 4.3's sum, divided by the number of its
    terms and of components. The lower, the more consistent. `draws` random masks of the same size lie where the object is,
    off the parts. With `masks` > 1 every mask, of parts and random ones alike, is followed by others, moved at random by up
    to an eighth of its width, and H is the mean over these.

    Whether a part differs from random masks is asked by a permutation test: were its masks like any others, it would not
    matter which of a photo's masks are called the part's. p is how often Δ is as far out, to either side, when that is drawn
    anew in each photo, `permutations` times. It allows for pairs that share photos.

    Parts of faces that fill their views alike lie at about the same place, and masks at one place change the same
    activations, whatever is under them. So each part has another control, which the paper does not have: its masks moved
    by one step in all photos at once, to where they touch no part. They lie as much at one place as the part's. `p_moved` is
    how often Δ of such steps is as far out as the part's; the fewer there are, the larger it has to be.

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
    image_set, known = _chosen(find_images(images), read_landmarks(Path(landmarks)))
    views = [part_view(network, image_set, index, known[path]) for index, path in enumerate(image_set.paths)]
    occluder, random = Occluder(max(1, round(mask * network.preprocessing.crop))), np.random.default_rng(seed)
    side, parts = occluder.size, list(views[0].parts)
    # One mask of each photo is a set: of each part, of each draw.
    sets = np.stack(
        [np.concatenate([view.corners(side), random_corners(view, side, draws, random)]) for view in views], axis=1
    )  # (sets, photos, 2)
    moved = [moved_corners(views, part, side) for part in range(len(parts))]
    total = len(sets) * masks * len(views) + sum(int((step[:, 0] >= 0).sum()) for steps in moved for step in steps)
    with bar("masking", total, progress) as advance:
        masked = _Masked(network, views, names, occluder, batch_size, advance)
        apart, changed = _between_sets(masked, sets, masks, random)
        elsewhere = [[_within_step(masked, corners) for corners in steps] for steps in moved]
    random_sets = range(len(parts), len(sets))
    scores: dict[str, dict[str, Score]] = {}
    by_chance: dict[str, Random] = {}
    with bar("permuting", len(names) * len(parts), progress) as advance:
        for name in names:
            scores[name] = {}
            for number, part in enumerate(parts):
                values = of_pairs(apart[name][:, number, :, number])
                null = permuted(apart[name], number, random_sets, permutations, random)
                steps = np.array([step[name] for step in elsewhere[number]])
                scores[name][part] = Score.of(
                    values, p_value(float(values.mean()), null), steps, float(changed[name][number])
                )
                advance(1)
            pairs = np.concatenate([of_pairs(apart[name][:, number, :, number]) for number in random_sets])
            by_chance[name] = Random(float(pairs.mean()), float(pairs.std()), float(changed[name][random_sets].mean()))
    return Correspondence(
        network=network.full_name,
        sha256=network.digest,
        image_set=image_set,
        mask=side,
        masks=masks,
        draws=draws,
        permutations=permutations,
        seed=seed,
        scores=scores,
        random=by_chance,
        pictures=_pictures(network, views, sets[: len(parts) + _PICTURED], occluder),
        columns=["photo", *parts, *["random"] * min(draws, _PICTURED)],
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


def _chosen(image_set: ImageSet, landmarks: dict[str, Landmarks]) -> tuple[ImageSet, dict[str, Landmarks]]:
    """The photos that the landmarks know. Raises `DeconvnetError` if one is missing or if they are fewer than two."""
    if isinstance(image_set, PackedImageSet):
        raise DeconvnetError(
            f"{image_set.root} is a packed set, but landmarks are of whole photos: pass the folder of those."
        )
    missing = sorted(set(landmarks) - set(image_set.paths))
    if missing:
        raise DeconvnetError(f"The landmarks know {missing[0]}, but there is no such path below {image_set.root}.")
    if len(landmarks) < 2:
        raise DeconvnetError("A correspondence is between photos: pass the landmarks of two or more.")
    return ImageSet(image_set.root, tuple(sorted(landmarks))), landmarks


class _Masked:
    """What masks do to the features of some photos."""

    def __init__(
        self,
        network: Network,
        views: list[PartView],
        layers: list[str],
        occluder: Occluder,
        batch_size: int,
        advance: Advance,
    ) -> None:
        self.network, self.layers, self.occluder = network, layers, occluder
        self.batch_size, self.advance = batch_size, advance
        self.x = torch.stack([view.x for view in views])
        self.clean = self._features(self.x)
        """By layer (photos, activations)."""
        eps = torch.finfo(next(network.module.parameters()).dtype).eps
        self.rounding = {name: _ROUNDING * eps * float(maps.abs().max()) for name, maps in self.clean.items()}

    def signs(self, corners: np.ndarray, chosen: np.ndarray) -> dict[str, Tensor]:
        """By layer (chosen, activations) int8: the sign of the change that a mask at `corners` (chosen, 2) makes in each of
        the photos of that number.
        """
        inputs = masked_views(self.network, self.x[chosen], corners, self.occluder)
        found = {}
        for name, masked in self._features(inputs).items():
            change = self.clean[name][chosen] - masked
            found[name] = change.sign().where(change.abs() > self.rounding[name], 0.0).to(torch.int8)
        self.advance(len(chosen))
        return found

    def _features(self, inputs: Tensor) -> dict[str, Tensor]:
        features: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        with torch.inference_mode():
            for part in torch.split(inputs, self.batch_size):
                self.network.capture(
                    part, self.layers, lambda name, maps: features[name].append(maps.flatten(1).float().cpu().clone())
                )
        return {name: torch.cat(parts) for name, parts in features.items()}


def _between_sets(
    masked: _Masked, sets: np.ndarray, masks: int, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By layer (photos, sets, photos, sets), H between any two masks, a mean over `masks` moved ones; and (sets,), the share
    of activations that a mask changes.
    """
    count, image_set, _ = sets.shape
    most, everyone = masked.x.shape[2] - masked.occluder.size, np.arange(image_set)
    sums: dict[str, np.ndarray] = {}
    changed = {name: np.zeros(count) for name in masked.layers}
    for copy in range(masks):
        reach = masked.occluder.size / 8 if copy else 0.0
        moved = np.clip(np.rint(sets + random.uniform(-reach, reach, sets.shape)).astype(np.int64), 0, most)
        signs: dict[str, list[Tensor]] = {name: [] for name in masked.layers}
        for number, corners in enumerate(moved):
            for name, found in masked.signs(corners, everyone).items():
                signs[name].append(found)
                changed[name][number] += float((found != 0).float().mean()) / masks
        for name, all_signs in signs.items():
            apart = distances(torch.cat(all_signs)).reshape(count, image_set, count, image_set).transpose(1, 0, 3, 2)
            sums[name] = sums.get(name, 0.0) + apart / masks
    return sums, changed


def _within_step(masked: _Masked, corners: np.ndarray) -> dict[str, float]:
    """By layer, Δ of the photos that have a corner (photos, 2)."""
    chosen = np.flatnonzero(corners[:, 0] >= 0)
    return {name: float(of_pairs(distances(signs)).mean()) for name, signs in masked.signs(corners[chosen], chosen).items()}


def masked_views(network: Network, x: Tensor, corners: np.ndarray, occluder: Occluder) -> Tensor:
    """The views x (N, 3, S, S), each with a mask whose upper left corner is given (N, 2)."""
    there = torch.from_numpy(corners)
    windows = [occluder.windows(view, corner[None], network.preprocessing) for view, corner in zip(x, there, strict=True)]
    masked = x.clone()
    paste(masked, torch.cat(windows), there)
    return masked


def _pictures(network: Network, views: list[PartView], sets: np.ndarray, occluder: Occluder) -> np.ndarray:
    """(photos, 1 + sets, crop, crop, 3) uint8: each photo, and under each of its masks."""
    x = torch.stack([view.x for view in views])
    versions = torch.stack([x, *(masked_views(network, x, corners, occluder) for corners in sets)], dim=1)
    return network.preprocessing.pixels(versions.flatten(0, 1)).reshape(*versions.shape[:2], *x.shape[2:], 3)
