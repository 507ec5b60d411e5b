"""Compute Table 1: mask the same part in several images and compare how that changes features (section 4.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.data.packed import PackedImageSet
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig7_occlusion import Occluder
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.experiments.table1_correspondence.hamming import hamming_distances, p_value, permutation_means, upper_triangle
from deconvnet.experiments.table1_correspondence.landmarks import Landmarks, read_landmarks
from deconvnet.experiments.table1_correspondence.part_crops import (
    PartCrop,
    crop_to_parts,
    random_corners,
    translated_corners,
)
from deconvnet.experiments.table1_correspondence.result import Correspondence, PartScore, RandomMaskScore
from deconvnet.models import Network
from deconvnet.progress import Advance, progress_bar
from deconvnet.tracing import paste

#: A change counts as 0 up to this many times eps of a layer's largest activation …
_TOLERANCE_EPS = 16
#: … or this many times the largest difference between two passes over the same images, on a device where there is one.
_PASS_MARGIN = 4

#: Random masks shown in the figure.
_RANDOM_MASKS_SHOWN = 3


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
    """Table 1 for the images of the folder `images` that are in the file `landmarks` (see `read_landmarks`).

    Each image is cropped to a square around its parts, 2.4 times as wide as their extent, as the paper's dogs fill theirs. A
    part is masked by a square around it, `mask` times as wide as the view and 0 in the network's input. With x the features
    of a layer for the image and x̃ those for the masked one, the change is ε = x − x̃, and of a set of masks, one from each
    image i,

        Δ = mean over pairs i < j of H(sign εᵢ, sign εⱼ)

    where H is the fraction of components that differ and sign is −1, 0 or 1: section 4.3's sum, divided by the number of its
    terms and of components. The lower, the more consistent. `draws` random masks of the same size lie on the object, off the
    parts. With `masks` > 1 every mask, of parts and random ones, is repeated with random translations of up to an eighth of
    its width, and H is the mean over these.

    A permutation test asks whether a part differs from random masks: if not, it would not matter which of an image's masks
    is called the part's. p is the two-sided p-value of Δ under drawing that mask anew in each image, `permutations` times.
    It allows for pairs that share images.

    Parts of faces that fill their views equally lie at about the same position, and masks at one position change the same
    activations, no matter what they hide. So each part has a second control, which the paper does not have: its masks
    translated equally in all images, to where they touch no part. They coincide in position as much as those of the part.
    `p_translated` is the p-value of Δ under these translations; the fewer there are, the larger its minimum.

    `layers` are names; by default the last convolutional and the last hidden one (the paper's 5 and 7).

    Raises `DeconvnetError` for files that cannot be read, landmarks outside of their image or fewer than two images,
    `UsageError` for a layer that the network does not have and numbers out of range.
    """
    _check_options(mask, masks, draws, permutations, batch_size)
    layers = list(
        layers or dict.fromkeys((network.convolutional_layers[-1:] or list(network.layers)) + list(network.layers)[-1:])
    )
    for layer in layers:
        network.layer(layer)
    landmarks_by_path = read_landmarks(Path(landmarks))
    image_set = _select_images(find_images(images), landmarks_by_path)
    crops = [crop_to_parts(network, image_set, index, landmarks_by_path[path]) for index, path in enumerate(image_set.paths)]
    occluder, rng = Occluder(max(1, round(mask * network.preprocessing.crop))), np.random.default_rng(seed)
    mask_size, parts = occluder.size, list(crops[0].parts)
    # A set of masks has one mask of each image. There is a set for each part, then one for each draw of random masks.
    sets = np.stack(
        [np.concatenate([crop.part_corners(mask_size), random_corners(crop, mask_size, draws, rng)]) for crop in crops],
        axis=1,
    )  # (sets, images, 2)
    random_sets = range(len(parts), len(sets))
    translations = [translated_corners(crops, part, mask_size) for part in range(len(parts))]
    num_translated_masks = sum(int((corners[:, 0] >= 0).sum()) for by_part in translations for corners in by_part)
    with progress_bar("masking", len(sets) * masks * len(crops) + num_translated_masks, progress) as advance:
        features = _MaskedFeatures(network, crops, layers, occluder, batch_size, advance)
        distances, changed = _compare_sets(features, sets, masks, rng)
        translated_means = [
            [_mean_distance(features, corners) for corners in part_translations] for part_translations in translations
        ]
    scores: dict[str, dict[str, PartScore]] = {layer: {} for layer in layers}
    random_scores: dict[str, RandomMaskScore] = {}
    with progress_bar("permuting", len(layers) * len(parts), progress) as advance:
        for layer in layers:
            for index, part in enumerate(parts):
                part_distances = upper_triangle(distances[layer][:, index, :, index])
                mean, translated = float(part_distances.mean()), [means[layer] for means in translated_means[index]]
                null = permutation_means(distances[layer], index, random_sets, permutations, rng)
                scores[layer][part] = PartScore(
                    mean=mean,
                    deviation=float(part_distances.std()) if len(part_distances) > 1 else None,
                    p=p_value(mean, null),
                    translated_mean=float(np.mean(translated)) if translated else None,
                    p_translated=p_value(mean, np.array(translated)) if translated else None,
                    num_translations=len(translated),
                    changed=float(changed[layer][index]),
                )
                advance(1)
            random_distances = np.concatenate(
                [upper_triangle(distances[layer][:, index, :, index]) for index in random_sets]
            )
            random_scores[layer] = RandomMaskScore(
                float(random_distances.mean()), float(random_distances.std()), float(changed[layer][random_sets].mean())
            )
    return Correspondence(
        network=network.full_name,
        sha256=network.digest,
        image_set=image_set,
        mask_size=mask_size,
        masks_per_part=masks,
        random_masks=draws,
        permutations=permutations,
        seed=seed,
        scores=scores,
        random_scores=random_scores,
        pictures=_pictures(network, crops, sets[: len(parts) + _RANDOM_MASKS_SHOWN], occluder),
        column_titles=["photo", *parts, *["random"] * min(draws, _RANDOM_MASKS_SHOWN)],
    )


def write_correspondence(out: Path, network: Network, images: Path, landmarks: Path, **options: Any) -> Correspondence:
    """Write `correspondence.png` and `correspondence.json` to the new folder `out`; see `correspond`."""
    with open_result_folder(out) as work:
        result = correspond(network, images, landmarks, **options)
        save(result, work, "correspondence")
    return result


def _check_options(mask: float, masks: int, draws: int, permutations: int, batch_size: int) -> None:
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


def _select_images(image_set: ImageSet, landmarks_by_path: dict[str, Landmarks]) -> ImageSet:
    """The images that have landmarks. Raises `DeconvnetError` if one is missing or if there are fewer than two."""
    if isinstance(image_set, PackedImageSet):
        raise DeconvnetError(
            f"{image_set.root} is a packed set, but landmarks are of whole photos: pass the folder of those."
        )
    missing = sorted(set(landmarks_by_path) - set(image_set.paths))
    if missing:
        raise DeconvnetError(f"The landmarks know {missing[0]}, but there is no such path below {image_set.root}.")
    if len(landmarks_by_path) < 2:
        raise DeconvnetError("A correspondence is between photos: pass the landmarks of two or more.")
    return ImageSet(image_set.root, tuple(sorted(landmarks_by_path)))


class _MaskedFeatures:
    """The features of some images, and how masks change them."""

    def __init__(
        self,
        network: Network,
        crops: list[PartCrop],
        layers: list[str],
        occluder: Occluder,
        batch_size: int,
        advance: Advance,
    ) -> None:
        self.network, self.layers, self.occluder = network, layers, occluder
        self.batch_size, self.advance = batch_size, advance
        self.x = torch.stack([crop.x for crop in crops])
        self.clean = self._features(self.x)
        """By layer (images, activations), without a mask."""
        again, eps = self._features(self.x), torch.finfo(network.dtype).eps
        self.tolerance = {
            layer: max(
                _TOLERANCE_EPS * eps * float(maps.abs().max()), _PASS_MARGIN * float((again[layer] - maps).abs().max())
            )
            for layer, maps in self.clean.items()
        }

    def change_signs(self, corners: np.ndarray, indices: np.ndarray) -> dict[str, Tensor]:
        """By layer (N, activations) int8: the signs of the changes made by a mask at corners[n] (N, 2) in image indices[n].

        −1, 0 or 1; 0 where the change is within rounding.
        """
        masked_x = _mask_inputs(self.network, self.x[indices], corners, self.occluder)
        signs = {}
        for layer, masked in self._features(masked_x).items():
            change = self.clean[layer][indices] - masked
            signs[layer] = change.sign().where(change.abs() > self.tolerance[layer], 0.0).to(torch.int8)
        self.advance(len(indices))
        return signs

    def _features(self, x: Tensor) -> dict[str, Tensor]:
        batches: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        with torch.inference_mode():
            for batch in torch.split(x, self.batch_size):
                self.network.capture(
                    batch, self.layers, lambda layer, maps: batches[layer].append(maps.flatten(1).float().cpu().clone())
                )
        return {layer: torch.cat(features) for layer, features in batches.items()}


def _compare_sets(
    features: _MaskedFeatures, sets: np.ndarray, repeats: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compare the changes that any two masks make. `sets` (sets, images, 2) are the corners of the masks.

    Returns, by layer, H (images, sets, images, sets), the mean over `repeats` translations of the masks, of which the first
    is none, and the fraction of activations that a mask changes (sets,), the mean over images and repeats.
    """
    num_sets, num_images, _ = sets.shape
    last_corner, all_images = features.x.shape[2] - features.occluder.size, np.arange(num_images)
    distances: dict[str, np.ndarray] = {}
    changed = {layer: np.zeros(num_sets) for layer in features.layers}
    for repeat in range(repeats):
        max_offset = features.occluder.size / 8 if repeat else 0.0
        offsets = rng.uniform(-max_offset, max_offset, sets.shape)
        translated = np.clip(np.rint(sets + offsets).astype(np.int64), 0, last_corner)
        signs: dict[str, list[Tensor]] = {layer: [] for layer in features.layers}
        for set_index, corners in enumerate(translated):
            for layer, set_signs in features.change_signs(corners, all_images).items():
                signs[layer].append(set_signs)
                changed[layer][set_index] += float((set_signs != 0).float().mean()) / repeats
        for layer, layer_signs in signs.items():
            h = hamming_distances(torch.cat(layer_signs)).reshape(num_sets, num_images, num_sets, num_images)
            distances[layer] = distances.get(layer, 0.0) + h.transpose(1, 0, 3, 2) / repeats
    return distances, changed


def _mean_distance(features: _MaskedFeatures, corners: np.ndarray) -> dict[str, float]:
    """By layer, Δ of masks at `corners` (images, 2), of those images whose corner is not −1."""
    indices = np.flatnonzero(corners[:, 0] >= 0)
    signs = features.change_signs(corners[indices], indices)
    return {layer: float(upper_triangle(hamming_distances(layer_signs)).mean()) for layer, layer_signs in signs.items()}


def _mask_inputs(network: Network, x: Tensor, corners: np.ndarray, occluder: Occluder) -> Tensor:
    """A copy of the inputs x (N, 3, S, S), with the occluder's upper left corner at corners[n] (N, 2)."""
    corner_tensor = torch.from_numpy(corners)
    windows = [
        occluder.occluded_windows(image, corner[None], network) for image, corner in zip(x, corner_tensor, strict=True)
    ]
    masked = x.clone()
    paste(masked, torch.cat(windows), corner_tensor)
    return masked


def _pictures(network: Network, crops: list[PartCrop], sets: np.ndarray, occluder: Occluder) -> np.ndarray:
    """(images, 1 + sets, crop, crop, 3) uint8: each image, and with each of its masks."""
    x = torch.stack([crop.x for crop in crops])
    inputs = torch.stack([x, *(_mask_inputs(network, x, corners, occluder) for corners in sets)], dim=1)
    return network.preprocessing.denormalise(inputs.flatten(0, 1)).reshape(*inputs.shape[:2], *x.shape[2:], 3)
