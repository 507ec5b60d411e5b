"""Compute Table 2: top-1 and top-5 errors of networks, and of the average of their probabilities."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, PackedImageSet, TransformPreprocessing, batches, upload
from deconvnet.data.packed_views import check_packed_views
from deconvnet.data.transforms import SQUARE_SIZE, CropMode, Interpolation, central_view, ten_views
from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import ClassOutputs, check_finite, find_labelled_images, match_classes
from deconvnet.experiments.table2_errors.result import ErrorRate, Evaluation, NetworkErrors
from deconvnet.mining import split_indices
from deconvnet.models import Network
from deconvnet.progress import progress_bar
from deconvnet.training import topk_errors


def evaluate(
    networks: Sequence[Network],
    data: Path | str | ImageSet,
    views: int = 10,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    processes: Processes | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measure the top-1 and top-5 errors of networks on labelled images (Table 2).

    `data` is a folder with a folder per class, a packed set, or a folder with such a `val` in it. With one view, a network's
    input is what it is everywhere (`network.preprocess`). With ten, it is the corners and the centre of the central square,
    each also mirrored, and the probabilities are averaged. The square is `resize` pixels wide (256 for all networks of the
    paper); a mean image, which is as wide as a view, is subtracted from each of the ten, as in cuda-convnet.

    If there are several networks with the same classes in the same order, the average of their probabilities is evaluated
    too. A prediction is one of all the network's classes, even if the images have fewer; among equal probabilities the first
    counts as the higher. Each of the `processes`, all of which must call this, evaluates some of the images; the result does
    not depend on their number.

    Raises `UsageError` for other numbers of views, for no networks and for an invalid `batch_size`; `DeconvnetError` for
    images without labels, if no image can be read, and for networks that cannot be evaluated on them.
    """
    if views not in (1, 10):
        raise UsageError(f"There are no {views} views: pass 1 or 10.")
    if not networks or batch_size < 1:
        raise UsageError(
            f"There are {len(networks)} networks and batches of {batch_size} photos: give at least one of each."
        )
    processes = processes or Processes()
    image_set = find_labelled_images(data)
    for network in networks:
        _check_views(network, image_set, views)
    outputs = [match_classes(network, image_set) for network in networks]
    digests = [network.digest for network in networks]
    if all(network.device.type == "cpu" for network in networks):
        keep_freed_memory()
    _check_same_arguments([image_set.digest, digests, views, batch_size], processes)
    process_indices = split_indices(torch.arange(len(image_set)), processes.rank, processes.world_size, batch_size)
    counts = count_errors(
        networks,
        outputs,
        image_set,
        views,
        process_indices.tolist(),
        batch_size=batch_size,
        workers=workers,
        progress=progress and processes.is_first,
    ).sum_over(processes)
    if not counts.images:
        path, reason = next(iter(counts.skipped.items()))
        raise DeconvnetError(f"None of the {len(image_set)} photos in {image_set.root} can be read: {path} {reason}.")

    def rates(row: int) -> tuple[ErrorRate, ErrorRate]:
        top1, top5 = counts.errors[row]
        return ErrorRate(top1, counts.images), ErrorRate(top5, counts.images)

    network_errors = tuple(
        NetworkErrors(
            network.full_name,
            *rates(row),
            class_count=len(outputs[row].ids),
            metadata={"sha256": digests[row], "matched_by": outputs[row].matched_by},
        )
        for row, network in enumerate(networks)
    )
    ensemble = None
    if can_average(outputs):
        name = f"{len(networks)} networks averaged"
        ensemble = NetworkErrors(name, *rates(len(networks)), class_count=len(outputs[0].ids))
    return Evaluation(
        str(image_set.root),
        image_set.digest,
        image_set.classes,
        views,
        counts.images,
        dict(sorted(counts.skipped.items())),
        network_errors,
        ensemble,
    )


@dataclass
class ErrorCounts:
    """Error counts over some images; counts over disjoint sets of images add up."""

    errors: list[tuple[int, int]]
    """Top-1 and top-5 errors of each network, then of their average."""
    images: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Path → reason of each image that could not be read."""

    def add(self, counts: Self) -> None:
        pairs = zip(self.errors, counts.errors, strict=True)
        self.errors = [(top1 + more_top1, top5 + more_top5) for (top1, top5), (more_top1, more_top5) in pairs]
        self.images += counts.images
        self.skipped |= counts.skipped

    def sum_over(self, processes: Processes) -> Self:
        """The sum over all processes, in each of them."""
        if processes.world_size == 1:
            return self
        if processes.is_first:
            for rank in range(1, processes.world_size):
                self.add(type(self)(**json.loads(processes.receive(rank))))
        else:
            processes.send(json.dumps(asdict(self)).encode())
        return type(self)(**json.loads(processes.broadcast(json.dumps(asdict(self)).encode())))


def count_errors(
    networks: Sequence[Network],
    outputs: Sequence[ClassOutputs],
    image_set: ImageSet,
    views: int,
    indices: Sequence[int],
    *,
    batch_size: int,
    workers: int | None,
    progress: bool,
) -> ErrorCounts:
    """Count the errors of each network, and of their average if `can_average`, over the images `indices`.

    Each image is read once for all networks; one view of `batch_size` images is a network's input at a time.
    """
    squares = [_square_for_views(network, views) for network in networks]
    distinct_squares = list(dict.fromkeys(squares))
    targets = [_target_indices(image_set, network_outputs) for network_outputs in outputs]
    with_average = can_average(outputs)
    device = next((network.device for network in networks if network.device.type == "cuda"), networks[0].device)
    counts = ErrorCounts([(0, 0)] * (len(networks) + with_average))

    def preprocess(image: Image.Image) -> Tensor:
        return torch.cat([square.pixels(image).flatten().view(torch.uint8) for square in distinct_squares])

    with progress_bar("judging", len(indices), progress) as advance, torch.inference_mode():
        for batch in batches(image_set, preprocess, batch_size, workers, indices, device):
            if len(batch.rows):
                pixels = torch.split(batch.inputs, [square.bytes for square in distinct_squares], dim=1)
                pixels_by_square = {
                    square: square.from_bytes(flat) for square, flat in zip(distinct_squares, pixels, strict=True)
                }
                probabilities = [
                    mean_probabilities(network, pixels_by_square[square], views)[batch.rows]
                    for network, square in zip(networks, squares, strict=True)
                ]
                batch_targets = [network_targets[batch.indices] for network_targets in targets]
                if with_average:
                    probabilities.append(torch.stack(probabilities).mean(dim=0))
                    batch_targets.append(batch_targets[0])
                errors = [_topk_errors(*pair) for pair in zip(probabilities, batch_targets, strict=True)]
                counts.add(ErrorCounts(errors, len(batch.rows)))
            counts.skipped |= {image_set.paths[index]: reason for index, reason in batch.skipped.items()}
            advance(len(batch.rows) + len(batch.skipped))
    return counts


def _topk_errors(probabilities: Tensor, targets: Tensor) -> tuple[int, int]:
    top1, top5 = topk_errors(probabilities, targets).tolist()
    return top1, top5


def mean_probabilities(network: Network, squares: Tensor, views: int) -> Tensor:
    """The mean over the views of central squares (N, size, size, 3) uint8 on the CPU: (N, classes) float64, on the CPU.

    With one view, the squares are the views, or what a transform made of each image. Raises `DeconvnetError` for
    probabilities that are not finite.
    """
    preprocessing, on_device = network.preprocessing, upload(squares, network.device)
    # One view at a time: ten take no more memory than one.
    by_view = [
        network.probabilities(preprocessing.normalise(view))
        for view in ([on_device] if views == 1 else ten_views(on_device, preprocessing.crop))
    ]
    probabilities = torch.stack(by_view).cpu().double().mean(dim=0)
    check_finite(network, probabilities)
    return probabilities


def can_average(outputs: Sequence[ClassOutputs]) -> bool:
    """Whether there are several networks, and all have the same classes in the same order."""
    return len(outputs) > 1 and all(network_outputs == outputs[0] for network_outputs in outputs)


@dataclass(frozen=True)
class _CentralSquare:
    """The central square of a resized image, in which all views of it lie."""

    resize: int
    """The image's shorter side, in pixels."""
    size: int
    """The side of the square, in pixels."""
    interpolation: Interpolation
    crop_mode: CropMode

    @property
    def bytes(self) -> int:
        """How many of them one image takes."""
        return self.size**2 * 3

    def from_bytes(self, flat: Tensor) -> Tensor:
        """Squares (N, size, size, 3) uint8 of what `pixels` made of N images, (N, bytes)."""
        return flat.reshape(len(flat), self.size, self.size, 3)

    def pixels(self, image: Image.Image) -> Tensor:
        """(size, size, 3) uint8."""
        view = central_view(image, self.resize, self.size, self.interpolation, self.crop_mode)
        return torch.from_numpy(np.array(view))


@dataclass(frozen=True)
class _TransformedImage:
    """The one view that a user's transform makes: the network's input itself."""

    preprocessing: TransformPreprocessing

    @property
    def bytes(self) -> int:
        """How many of them one image takes."""
        return math.prod(self.preprocessing.input_shape) * torch.float32.itemsize

    def from_bytes(self, flat: Tensor) -> Tensor:
        """Inputs (N, 3, H, W) float32 of what `pixels` made of N images, (N, bytes)."""
        return flat.contiguous().view(torch.float32).view(len(flat), *self.preprocessing.input_shape)

    def pixels(self, image: Image.Image) -> Tensor:
        """(3, H, W) float32."""
        return self.preprocessing(image)


def _square_for_views(network: Network, views: int) -> _CentralSquare | _TransformedImage:
    """What is read of each image for a network. Raises `DeconvnetError` if it has no such views."""
    if views == 1 and isinstance(network.preprocessing, TransformPreprocessing):
        return _TransformedImage(network.preprocessing)
    preprocessing = network.preprocessing.with_views("showing it ten (--views 1 shows one)")
    size = preprocessing.crop if views == 1 else preprocessing.resize
    return _CentralSquare(preprocessing.resize, size, preprocessing.interpolation, preprocessing.crop_mode)


def _target_indices(image_set: ImageSet, outputs: ClassOutputs) -> Tensor:
    """The output that stands for each image's class, (images,) int64."""
    index_by_class = dict(zip(image_set.classes, outputs.indices, strict=True))
    return torch.tensor([index_by_class[label] for label in image_set.labels])


def _check_views(network: Network, image_set: ImageSet, views: int) -> None:
    """Raise `DeconvnetError` if images lack what the network is shown, or all `views` would be the same."""
    crop, square = network.preprocessing.crop, _square_for_views(network, views)
    if isinstance(image_set, PackedImageSet) and crop > SQUARE_SIZE:
        raise DeconvnetError(
            f"{network.full_name} is shown {crop}×{crop} pixels, and the packed set {image_set.root} has "
            f"{SQUARE_SIZE}×{SQUARE_SIZE}: pass the folder of photos instead."
        )
    check_packed_views(image_set, network.preprocessing, network.full_name)
    if views > 1 and isinstance(square, _CentralSquare) and crop == square.resize:
        raise DeconvnetError(
            f"{network.full_name} is shown the whole central square of {crop}×{crop} pixels, so that its corners and its "
            "centre are all the same: pass --views 1."
        )


def _check_same_arguments(arguments: list[Any], processes: Processes) -> None:
    """Raise `DeconvnetError` unless all processes have the same arguments."""
    content = json.dumps(arguments).encode()
    if processes.world_size > 1 and processes.broadcast(content) != content:
        raise DeconvnetError(
            f"The first process judges other networks or photos than process {processes.rank}: start all with the same "
            "command, on the same photos."
        )
