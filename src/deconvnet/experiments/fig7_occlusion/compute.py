"""Compute Fig. 7: slide an occluder over images and record a unit's activation and the class probabilities (section 4.2)."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deconvnet.data import ImageSet, Inputs, InputSet, find_items
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.data.packed import PackedImageSet
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import check_finite, class_name, count_classes, find_class, predict_class
from deconvnet.experiments.fig7_occlusion.image_result import ClassSource, OccludedImage
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.result import Occlusion
from deconvnet.experiments.images import read_input
from deconvnet.experiments.result import open_result_folder, save
from deconvnet.mining import LayerHits, mine
from deconvnet.models import Network, activation_cache, forward_patched, parallel_map
from deconvnet.progress import Advance, print_status, progress_bar
from deconvnet.projection import check_way_down, project_batch, strongest_unit
from deconvnet.tracing import ActivationCache, paste

#: Other images whose projections are shown for each image, as in the paper.
_MAX_OTHER_HITS = 3


def occlude(
    network: Network,
    images: Inputs,
    occluder: Occluder | None = None,
    *,
    label: str = "",
    search_images: Inputs | None = None,
    state: Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    progress: bool = False,
) -> Occlusion:
    """Fig. 7: the activation of a unit and the class probabilities with `occluder` at every position in each image.

    The unit is the one of the last convolutional layer with the strongest activation in the image; its total activation is
    the sum over its feature map. It is projected for this image and for the three of `search_images` (a folder; by default
    `images`) in which its activation is strongest. The class is `label` (see `class_labels.find_class`), or the name of the
    image's folder, or the network's prediction for the image without an occluder. The file `state` keeps the progress of the
    search for a later call to resume. Images are in the order of their paths.

    Raises `UsageError` for an occluder larger than the view or a class that the network does not have, `DeconvnetError` if
    an image cannot be read or the network has no convolutional layer.
    """
    occluder, image_set = occluder or Occluder(), find_items(images)
    if not network.convolutional_layers:
        raise DeconvnetError(f"{network.full_name} has no convolutional layer, so it has no unit to follow.")
    if batch_size < 1:
        raise UsageError(f"{batch_size} positions cannot go through the network at once: pass 1 or more.")
    layer = network.convolutional_layers[-1]
    check_way_down(network, layer)  # before hours of mining
    row_starts, column_starts = (occluder.starts(length) for length in network.input_shape[1:])
    label_class = find_class(network, label) if label else None
    if network.classifies:
        count_classes(network)
    inputs = [read_input(network, image_set, index) for index in range(len(image_set))]
    search_set = image_set if search_images is None else find_items(search_images)
    print_status(f"Photos that drive {layer} most, among {len(search_set):,}:", progress)
    mined = mine(
        network,
        search_set,
        [layer],
        _MAX_OTHER_HITS + 1,  # one of the hits may be the image itself
        state=state,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )
    occluded_images = []
    with progress_bar("occluding", len(inputs) * len(row_starts) * len(column_starts), progress) as advance:
        for index, x in enumerate(inputs):
            occluded_images.append(
                _occlude_image(network, image_set, index, x, occluder, label_class, mined[layer], batch_size, advance)
            )
    return Occlusion(
        network=network.full_name,
        sha256=network.digest,
        layer=layer,
        occluder=occluder,
        starts=row_starts,
        column_starts=column_starts,
        view_size=network.input_shape[1:],
        image_set=image_set,
        occluded_images=occluded_images,
        num_searched=len(search_set),
        shown_as=network.input_space.shown_as,
    )


def write_occlusion(out: Path, network: Network, images: Inputs, occluder: Occluder, **options: Any) -> Occlusion:
    """Write `occlusion.png` and `occlusion.json` to the new folder `out`; see `occlude`."""
    with open_result_folder(out) as work:
        result = occlude(network, images, occluder, state=work.path / "others.safetensors", **options)
        save(result, work, "occlusion")
    return result


def forward_occluded_in_batches(
    network: Network,
    x: Tensor,
    occluder: Occluder,
    corners: Tensor,
    layer: str,
    unit: int,
    batch_size: int = 64,
    advance: Advance = lambda steps, note="": None,
) -> tuple[Tensor, Tensor]:
    """`forward_occluded` for any number of `corners` (N, 2), in batches, on all cores of a CPU.

    Corners that are close together share a batch. `advance` is called with the number of corners done. Returns total
    activations (N,) float64 and log-probabilities (N, classes) float64, or (N, 0) for a trunk, in the order of `corners`.
    """
    cache = activation_cache(network, x[None])

    def compute(replica: Network, indices: Tensor) -> tuple[Tensor, Tensor]:
        return forward_occluded(replica, x, occluder, corners[indices], layer, unit, cache)

    batches, outputs = _batches_of_neighbours(corners, occluder.stride, batch_size), []
    with closing(parallel_map(network, lambda indices: indices, compute, batches)) as results:
        for totals, log_probabilities in results:
            outputs.append((totals, log_probabilities))
            advance(len(totals))
    totals, log_probabilities = (torch.cat(tensors) for tensors in zip(*outputs, strict=True))
    original_order = torch.cat(batches).argsort()
    return totals[original_order], log_probabilities[original_order]


def forward_occluded(
    network: Network,
    x: Tensor,
    occluder: Occluder,
    corners: Tensor,
    layer: str,
    unit: int,
    cache: ActivationCache | None,
) -> tuple[Tensor, Tensor]:
    """Run the network on N copies of the input x (C, H, W), with the occluder's upper left corner at `corners` (N, 2).

    Returns the unit's total activation in each, (N,) float64, and the logarithm of the softmax of the output, (N, classes)
    float64, which tells positions apart where the probability itself rounds to 1; (N, 0) for a trunk. All N copies are one
    batch. With `cache`, `activation_cache(network, x[None])`, only what the occluder can change is computed.
    """
    patches = occluder.occluded_windows(x, corners, network)
    output, maps = forward_patched(network, x[None], cache, patches, corners, layer, unit)
    totals = maps.cpu().double().sum(dim=(1, 2))
    log_probabilities = output.cpu().double().log_softmax(dim=1) if network.classifies else torch.zeros(len(corners), 0)
    return totals, log_probabilities


def _batches_of_neighbours(corners: Tensor, stride: int, max_size: int) -> list[Tensor]:
    """The indices of `corners` (N, 2) in batches of at most `max_size` that are close together.

    The region of a feature map that any occluder of a batch can change is then small.
    """
    block_size = max(1, math.isqrt(max_size)) * stride
    blocks = corners // block_size
    order = (blocks[:, 0] * (int(blocks[:, 1].max()) + 1) + blocks[:, 1]).argsort(stable=True)
    sizes = torch.unique_consecutive(blocks[order], dim=0, return_counts=True)[1].tolist()
    return [batch for block in torch.split(order, sizes) for batch in torch.split(block, max_size)]


def _occlude_image(
    network: Network,
    image_set: InputSet,
    index: int,
    x: Tensor,
    occluder: Occluder,
    label_class: int | None,
    hits: LayerHits,
    batch_size: int,
    advance: Advance,
) -> OccludedImage:
    """Slide the occluder over image number `index`, whose input is x (C, H, W). `hits` are those of the followed layer."""
    layer = hits.layer.name
    target, class_source = _choose_class(network, image_set, index, x, label_class)
    unit = strongest_unit(network, x[None], layer)
    clean_activation = float(network.activations(x[None], layer)[0, unit].cpu().double().sum())
    clean_probabilities = network.probabilities(x[None])[0].cpu() if network.classifies else None

    corners = occluder.corners(*network.input_shape[1:])
    totals, log_probabilities = forward_occluded_in_batches(network, x, occluder, corners, layer, unit, batch_size, advance)
    check_finite(network, log_probabilities)
    probabilities = None if target is None else log_probabilities[:, target].exp()
    predictions = log_probabilities.argmax(dim=1) if network.classifies else None
    clean_prediction = None if clean_probabilities is None else int(clean_probabilities.argmax())
    class_indices = [] if predictions is None else sorted({*predictions.tolist(), clean_prediction})

    worst = int((totals if probabilities is None else probabilities).argmin())
    worst_corner = corners[worst][None]
    occluded_x = x[None].clone()
    paste(occluded_x, occluder.occluded_windows(x, worst_corner, network), worst_corner)

    hits_elsewhere = [hit for hit in hits[unit] if not _is_same_image(image_set, index, hits.image_set, hit.image)]
    other_hits = []
    for hit in hits_elsewhere[:_MAX_OTHER_HITS]:
        hit_x = read_input(network, hits.image_set, hit.image)
        other_hits.append((hit, _cropped_projection(network, hit_x, layer, unit, (hit.row, hit.column))))

    map_size = [len(occluder.starts(length)) for length in network.input_shape[1:]]
    return OccludedImage(
        path=image_set.caption(index),
        view=channels_as_rgb(network.show(x[None]))[0],
        occluded_view=channels_as_rgb(network.show(occluded_x))[0],
        unit=unit,
        activation_map=totals.view(map_size).numpy(),
        clean_activation=clean_activation,
        projection=_cropped_projection(network, x, layer, unit),
        other_hits=other_hits,
        class_name="" if target is None else class_name(network, target),
        class_source=class_source,
        probability_map=None if probabilities is None else probabilities.view(map_size).numpy(),
        clean_probability=(None if clean_probabilities is None or target is None else float(clean_probabilities[target])),
        clean_prediction=clean_prediction,
        prediction_map=None if predictions is None else predictions.view(map_size).numpy(),
        class_names={class_index: class_name(network, class_index) for class_index in class_indices},
    )


def _cropped_projection(
    network: Network, x: Tensor, layer: str, unit: int, position: tuple[int, int] | None = None
) -> Tensor:
    """(C, h, w) the projection of one activation (default: the unit's strongest), cropped to its receptive field."""
    positions = None if position is None else torch.tensor([position])
    batch = project_batch(network, x[None], layer, torch.tensor([unit]), positions)
    return batch.crop(network.layer(layer))[0].float().cpu()


def _choose_class(
    network: Network, image_set: InputSet, index: int, x: Tensor, label_class: int | None
) -> tuple[int | None, ClassSource]:
    """The index of the class whose probability is recorded for an image, and where it comes from; None for a trunk."""
    if not network.classifies:
        return None, ""
    if label_class is not None:
        return label_class, "label"
    folder = image_set.file(index).parent.name if isinstance(image_set, ImageSet) else ""
    if network.classes and folder and not folder.isdecimal():
        try:
            return find_class(network, folder), "folder"
        except UsageError:
            pass
    return predict_class(network, x), "prediction"


def _is_same_image(image_set: InputSet, index: int, search_set: InputSet, search_index: int) -> bool:
    """Whether both are the same file, or the same item of a data set; an image of a packed set has the path that it had
    below its original folder.
    """
    if not (isinstance(image_set, ImageSet) and isinstance(search_set, ImageSet)):
        return image_set.digest == search_set.digest and index == search_index
    if isinstance(search_set, PackedImageSet):
        return image_set.file(index).as_posix().endswith(f"/{search_set.paths[search_index]}")
    return image_set.file(index).resolve() == search_set.file(search_index).resolve()
