"""Make Fig. 7: move an occluder over photos and follow a unit and the classes."""

import math
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.data.packed import PackedImageSet
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import (
    class_name,
    count_classes,
    find_class,
    predicted,
)
from deconvnet.experiments.fig7_occlusion.occluded_image import Occluded
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.result import Occlusion
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import write_result
from deconvnet.mining import MiningResult, mine
from deconvnet.models import Network, parallel_map
from deconvnet.progress import Advance, bar, say
from deconvnet.projection import project_batch
from deconvnet.tracing import ActivationCache, paste

#: Other photos whose projections are shown, as in the paper.
_OTHERS = 3


def occlude(
    network: Network,
    images: Iterable[Path | str] | Path | str | ImageSet,
    occluder: Occluder | None = None,
    *,
    label: str = "",
    others: Path | str | ImageSet | None = None,
    state: Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    progress: bool = False,
) -> Occlusion:
    """Lay `occluder` over each photo at every position, as section 4.2 does, and follow what the network makes of it.

    The unit that is followed is the one of the last convolutional layer with the strongest activation in the photo; its
    total activation is the sum over its map. Projections of it are shown for this photo and for the three of `others` (a
    folder; by default the photos themselves) that drive it most. The class that is followed is `label` (see
    `labels.find_class`), or what the photo's folder is called, or what the network says of the photo without an occluder.
    The file `state` keeps what was found among `others`, for a killed call to go on. Photos are in the order of their paths.

    Raises `UsageError` for an occluder larger than the view or a class that the network does not have, `DeconvnetError` if a
    photo cannot be read or the network has no convolutional layer.
    """
    occluder, image_set = occluder or Occluder(), find_images(images)
    if not network.convolutional_layers:
        raise DeconvnetError(f"{network.full_name} has no convolutional layer, so it has no unit to follow.")
    if batch_size < 1:
        raise UsageError(f"{batch_size} positions cannot go through the network at once: pass 1 or more.")
    layer = network.convolutional_layers[-1]
    starts = occluder.starts(network.preprocessing.crop)
    chosen = find_class(network, label) if label else None
    if network.classifies:
        count_classes(network)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    among = image_set if others is None else find_images(others)
    say(f"Photos that drive {layer} most, among {len(among):,}:", progress)
    mined = mine(
        network, among, [layer], _OTHERS + 1, state=state, batch_size=batch_size, workers=workers, progress=progress
    )
    rows = []
    with bar("occluding", len(inputs) * len(starts) ** 2, progress) as advance:
        for index, x in enumerate(inputs):
            target, by = _target(network, image_set, index, chosen, x)
            rows.append(_occlude(network, image_set, index, x, occluder, layer, target, by, mined, batch_size, advance))
    return Occlusion(network.full_name, network.digest, layer, occluder, starts, image_set, rows, len(among))


def write_occlusion(out: Path, network: Network, images: Iterable[Path], occluder: Occluder, **options: Any) -> Occlusion:
    """Write `occlusion.png` and `occlusion.json` to the new folder `out`; see `occlude`."""
    return write_result(
        out, "occlusion", lambda work: occlude(network, images, occluder, state=work / "others.safetensors", **options)
    )


def occluded_scores(
    network: Network,
    x: Tensor,
    occluder: Occluder,
    corners: Tensor,
    layer: str,
    unit: int,
    batch_size: int = 64,
    advance: Advance = lambda steps, note="": None,
) -> tuple[Tensor, Tensor]:
    """Lay the occluder over the input x (3, S, S) at each of `corners` (N, 2).

    Returns the unit's total activations (N,) float64, and the logarithms of the output's softmax (N, classes), which keep
    their order where the softmax is 1 but for rounding; of a trunk (N, 0).
    """
    unchanged = network.activation_cache(x[None])

    def cover(own: Network, group: Tensor) -> tuple[Tensor, Tensor]:
        return occluded_batch(own, x, unchanged, occluder, corners[group], layer, unit)

    groups, parts = _neighbours(corners, occluder.stride, batch_size), []
    with closing(parallel_map(network, lambda group: group, cover, groups)) as covered:
        for part in covered:
            parts.append(part)
            advance(len(part[1]))
    totals, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    back = torch.cat(groups).argsort()
    return totals[back], scores[back]


def _neighbours(corners: Tensor, stride: int, most: int) -> list[Tensor]:
    """The indices of `corners` (N, 2) in groups of at most `most` that lie close together: what can change is then a small
    part of the maps, the same in all of a group.
    """
    side = max(1, math.isqrt(most)) * stride
    blocks = corners // side
    order = (blocks[:, 0] * (int(blocks[:, 1].max()) + 1) + blocks[:, 1]).argsort(stable=True)
    sizes = torch.unique_consecutive(blocks[order], dim=0, return_counts=True)[1].tolist()
    return [part for group in torch.split(order, sizes) for part in torch.split(group, most)]


def occluded_batch(
    network: Network,
    x: Tensor,
    unchanged: ActivationCache | None,
    occluder: Occluder,
    corners: Tensor,
    layer: str,
    unit: int,
) -> tuple[Tensor, Tensor]:
    """What `occluded_scores` returns, of so few `corners` that they go through the network at once.

    `unchanged` is what `network.unchanged` made of x.
    """
    totals: list[Tensor] = []
    output = network.forward_patched(
        x[None],
        unchanged,
        occluder.windows(x, corners, network.preprocessing),
        corners,
        [layer],
        lambda _, maps: totals.append(maps[:, unit].cpu().double().sum(dim=(1, 2))),
    )
    scores = output.cpu().double().log_softmax(dim=1) if network.classifies else torch.zeros(len(corners), 0)
    return totals[0], scores


def _occlude(
    network: Network,
    image_set: ImageSet,
    index: int,
    x: Tensor,
    occluder: Occluder,
    layer: str,
    target: int | None,
    by: Literal["label", "folder", "prediction", ""],
    mined: MiningResult,
    batch_size: int,
    advance: Advance,
) -> Occluded:
    maps = network.activations(x[None], layer)[0]
    unit = int(maps.flatten(1).amax(dim=1).argmax())
    corners = occluder.corners(network.preprocessing.crop)
    totals, scores = occluded_scores(network, x, occluder, corners, layer, unit, batch_size, advance)
    side = len(occluder.starts(network.preprocessing.crop))
    whole = network.probabilities(x[None])[0].cpu() if network.classifies else None
    probability = None if target is None else scores[:, target].exp()
    worst = int((totals if probability is None else probability).argmin())
    covered, there = x[None].clone(), corners[worst][None]
    paste(covered, occluder.windows(x, there, network.preprocessing), there)
    best = scores.argmax(dim=1) if network.classifies else None
    whole_best = None if whole is None else int(whole.argmax())
    numbers = [] if best is None else sorted({*best.tolist(), whole_best})
    hits = [hit for hit in mined[layer][unit] if not _is_same(image_set, index, mined.image_set, hit.image)][:_OTHERS]
    return Occluded(
        path=image_set.paths[index],
        view=network.preprocessing.pixels(x[None])[0],
        covered=network.preprocessing.pixels(covered)[0],
        unit=unit,
        activation=totals.view(side, side).numpy(),
        whole_activation=float(maps[unit].cpu().double().sum()),
        projection=_projection(network, x, layer, unit, None),
        others=[
            (hit, _projection(network, read_input(network, mined.image_set, hit.image), layer, unit, (hit.row, hit.column)))
            for hit in hits
        ],
        target="" if target is None else class_name(network, target),
        target_by=by,
        probability=None if probability is None else probability.view(side, side).numpy(),
        whole_probability=None if whole is None or target is None else float(whole[target]),
        whole_best=whole_best,
        best=None if best is None else best.view(side, side).numpy(),
        names={number: class_name(network, number) for number in numbers},
    )


def _projection(network: Network, x: Tensor, layer: str, unit: int, place: tuple[int, int] | None) -> Tensor:
    """(3, h, w), cut to the receptive field."""
    position = None if place is None else torch.tensor([place])
    found = project_batch(network, x[None], layer, torch.tensor([unit]), position)
    box = network.layer(layer).field.patch_box(int(found.rows[0]), int(found.columns[0]))
    return found.pixels[0, :, box.top : box.bottom, box.left : box.right].float().cpu()


def _target(
    network: Network, image_set: ImageSet, index: int, chosen: int | None, x: Tensor
) -> tuple[int | None, Literal["label", "folder", "prediction", ""]]:
    """The class that is followed in a photo, and who says so."""
    if not network.classifies:
        return None, ""
    if chosen is not None:
        return chosen, "label"
    folder = image_set.file(index).parent.name
    if network.classes and folder and not folder.isdecimal():
        try:
            return find_class(network, folder), "folder"
        except UsageError:
            pass
    return predicted(network, x), "prediction"


def _is_same(image_set: ImageSet, index: int, others: ImageSet, other: int) -> bool:
    """Whether a photo is one of those that may be shown beside it; in a packed set it is called as in its folder."""
    if isinstance(others, PackedImageSet):
        return image_set.file(index).as_posix().endswith(f"/{others.paths[other]}")
    return image_set.file(index).resolve() == others.file(other).resolve()
