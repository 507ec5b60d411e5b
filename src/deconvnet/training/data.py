"""Image sets as batches for training and validation, prepared ahead by threads; packed sets and folders alike."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import ImageSet, PackedImageSet, Preprocessing, UnreadableImage, find_images
from deconvnet.data.image_set import require_same_classes
from deconvnet.data.loader import prefetch, upload
from deconvnet.data.transforms import SQUARE_SIZE, central_crop, central_square, random_crops
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError
from deconvnet.progress import progress_bar
from deconvnet.training.recipe import Recipe
from deconvnet.training.stateless_rng import crop_numbers

#: Batches prepared ahead by one thread; the images of each are decoded by many.
_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class TrainingBatch:
    """A batch on the CPU, not yet normalised."""

    pixels: Tensor
    """(N, crop, crop, 3) uint8."""
    targets: Tensor
    """(N,) int64, class indices."""

    def pinned_for(self, device: torch.device) -> Self:
        """The same batch, in memory from which `upload` copies to `device` without waiting: on CUDA pinned memory."""
        if device.type != "cuda":
            return self
        return type(self)(self.pixels.pin_memory(), self.targets.pin_memory())

    def to_inputs(self, preprocessing: Preprocessing, recipe: Recipe, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised inputs (N, 3, crop, crop) float32, in the recipe's memory format, and targets (N,) on `device`."""
        inputs = preprocessing.normalise(upload(self.pixels, device))
        return inputs.contiguous(memory_format=recipe.memory_format(device)), upload(self.targets, device)


@dataclass(frozen=True)
class TrainingData:
    """A training and a validation set with the same classes."""

    train: ImageSet
    val: ImageSet

    @property
    def classes(self) -> tuple[str, ...]:
        """Class folders, ascending: a class's position is its index."""
        return self.train.classes


def open_data(folder: Path | str) -> TrainingData:
    """The image sets `train` and `val` in a folder, packed or not.

    Raises `DeconvnetError` if one is missing, if images lie outside of class folders, if the classes of the two differ, or
    if there is only one class.
    """
    folder = Path(folder)
    for name in ("train", "val"):
        if not (folder / name).is_dir():
            raise DeconvnetError(
                f"There is no folder {folder / name}: training takes a folder with train/ and val/ in it, each with one "
                "folder per class, or what deconvnet pack makes of them."
            )
    data = TrainingData(find_images(folder / "train"), find_images(folder / "val"))
    require_same_classes(data.train, data.val)
    if len(data.classes) < 2:
        raise DeconvnetError(f"{folder / 'train'} has one class only, {data.classes[0]}: there is nothing to tell apart.")
    return data


def class_indices(image_set: ImageSet, classes: tuple[str, ...]) -> np.ndarray:
    """The index in `classes` of each image's class, (N,) int64."""
    index_by_class = {name: index for index, name in enumerate(classes)}
    return np.array([index_by_class[label] for label in image_set.labels], dtype=np.int64)


def read_squares(image_set: ImageSet, indices: np.ndarray, pool: ThreadPoolExecutor) -> list[np.ndarray]:
    """The central squares (256, 256, 3) uint8 of the images `indices`; of a packed set views into its file.

    Raises `DeconvnetError`, naming the image, if one in a folder cannot be read.
    """
    if isinstance(image_set, PackedImageSet):
        return [image_set.square(index) for index in indices.tolist()]

    def read(index: int) -> np.ndarray:
        try:
            return central_square(image_set.read(index))
        except UnreadableImage as error:
            raise DeconvnetError(
                f"{image_set.file(index)} {error}: remove it, or train on what deconvnet pack makes of the photos, which "
                "leaves out those that cannot be read."
            ) from None

    return list(pool.map(read, indices.tolist()))


def compute_mean(data: TrainingData, pool: ThreadPoolExecutor, show: bool) -> np.ndarray:
    """The mean image of the training set, see `mean_image`.

    Reads the images of the validation set too, so that an unreadable one is reported now and not after an epoch; raises as
    `read_squares` does.
    """
    if not isinstance(data.val, PackedImageSet):
        mean_image(data.val, pool, show)
    return mean_image(data.train, pool, show)


def mean_image(image_set: ImageSet, pool: ThreadPoolExecutor, show: bool) -> np.ndarray:
    """The per-pixel mean of all central squares, (256, 256, 3) float32, 0 to 255."""
    if isinstance(image_set, PackedImageSet):
        return image_set.mean
    sums = np.zeros((SQUARE_SIZE, SQUARE_SIZE, 3), np.uint64)
    with progress_bar(f"reading {image_set.root.name}", len(image_set), show) as advance:
        for start in range(0, len(image_set), 256):
            indices = np.arange(start, min(start + 256, len(image_set)))
            sums += np.sum(read_squares(image_set, indices, pool), axis=0, dtype=np.uint64)
            advance(len(indices))
    return (sums / len(image_set)).astype(np.float32)


def training_batches(
    data: TrainingData,
    batch_indices: np.ndarray,
    crop: int,
    seed: int,
    epoch: int,
    pool: ThreadPoolExecutor,
    device: torch.device,
) -> Generator[TrainingBatch]:
    """Random crops of the training images whose indices are in each row of `batch_indices` (batches, N).

    A crop's position and mirroring are drawn from (seed, epoch, index). Batches are on the CPU, in pinned memory if `device`
    is a GPU.
    """
    targets = class_indices(data.train, data.classes)

    def make(indices: np.ndarray) -> TrainingBatch:
        pixels = random_crops(read_squares(data.train, indices, pool), crop, crop_numbers(seed, epoch, indices))
        return TrainingBatch(torch.from_numpy(pixels), torch.from_numpy(targets[indices])).pinned_for(device)

    return prefetch(make, batch_indices, 1, _BATCHES_AHEAD)


def validation_batches(
    data: TrainingData, crop: int, batch_size: int, processes: Processes, pool: ThreadPoolExecutor, device: torch.device
) -> Generator[TrainingBatch]:
    """The central views of this process's validation images; each image goes to exactly one process.

    Batches are on the CPU, in pinned memory if `device` is a GPU.
    """
    targets = class_indices(data.val, data.classes)
    process_indices = np.arange(processes.rank, len(targets), processes.world_size)
    slice_size = max(1, batch_size // processes.world_size)

    def make(batch_number: int) -> TrainingBatch:
        indices = process_indices[batch_number * slice_size : (batch_number + 1) * slice_size]
        pixels = np.ascontiguousarray(central_crop(np.stack(read_squares(data.val, indices, pool)), crop))
        return TrainingBatch(torch.from_numpy(pixels), torch.from_numpy(targets[indices])).pinned_for(device)

    return prefetch(make, range(-(-len(process_indices) // slice_size)), 1, _BATCHES_AHEAD)
