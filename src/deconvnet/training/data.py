"""Photos as the batches that training and validation take, made ahead by threads; a packed set or a folder alike."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import (
    ImageSet,
    PackedImageSet,
    UnreadableImage,
    find_images,
)
from deconvnet.data.image_set import require_same_classes
from deconvnet.data.loader import prefetch
from deconvnet.data.transforms import (
    SQUARE,
    central_crop,
    random_crops,
    square,
)
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError
from deconvnet.progress import bar
from deconvnet.training.rng import crop_numbers, epoch_order

#: Batches made ahead, by one thread, while the photos of each are decoded by many.
_AHEAD = 3


@dataclass(frozen=True)
class TrainingBatch:
    """A batch, not yet normalised."""

    pixels: Tensor
    """(n, crop, crop, 3) uint8."""
    targets: Tensor
    """(n,) int64, class numbers."""

    def pinned(self) -> Self:
        """The same in memory from which a GPU copies while the program goes on."""
        return type(self)(self.pixels.pin_memory(), self.targets.pin_memory())


@dataclass(frozen=True)
class TrainingData:
    """Photos to learn from and photos to judge by, of the same classes."""

    train: ImageSet
    val: ImageSet

    @property
    def classes(self) -> tuple[str, ...]:
        """Class folders, ascending: a class's place is its number."""
        return self.train.classes


def open_data(folder: Path | str) -> TrainingData:
    """The sets `train` and `val` of a folder, packed or not.

    Raises `DeconvnetError` if one is missing, has photos outside of class folders, or if their classes differ.
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


def targets(image_set: ImageSet, classes: tuple[str, ...]) -> np.ndarray:
    """Each photo's class number, (n,) int64."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[label] for label in image_set.labels], dtype=np.int64)


def squares(image_set: ImageSet, indices: np.ndarray, pool: ThreadPoolExecutor) -> list[np.ndarray]:
    """N squares (256, 256, 3) uint8; those of a packed set as they lie in its file.

    Raises `DeconvnetError`, which names the photo, if one of a folder cannot be read.
    """
    if isinstance(image_set, PackedImageSet):
        return [image_set.square(index) for index in indices.tolist()]

    def read(index: int) -> np.ndarray:
        try:
            return square(image_set.read(index))
        except UnreadableImage as error:
            raise DeconvnetError(
                f"{image_set.file(index)} {error}: remove it, or train on what deconvnet pack makes of the photos, which "
                "leaves out those that cannot be read."
            ) from None

    return list(pool.map(read, indices.tolist()))


def compute_mean(data: TrainingData, pool: ThreadPoolExecutor, progress: bool) -> np.ndarray:
    """The mean image of the photos to learn from. Those to judge by are read too, so that one that cannot be read is met now
    and not after an epoch; raises as `squares` does.
    """
    if not isinstance(data.val, PackedImageSet):
        mean_image(data.val, pool, progress)
    return mean_image(data.train, pool, progress)


def mean_image(image_set: ImageSet, pool: ThreadPoolExecutor, progress: bool) -> np.ndarray:
    """The per-pixel mean of all photos' squares, (256, 256, 3) float32, 0 to 255."""
    if isinstance(image_set, PackedImageSet):
        return image_set.mean
    sums = np.zeros((SQUARE, SQUARE, 3), np.uint64)
    with bar(f"reading {image_set.root.name}", len(image_set), progress) as advance:
        for start in range(0, len(image_set), 256):
            indices = np.arange(start, min(start + 256, len(image_set)))
            sums += np.sum(squares(image_set, indices, pool), axis=0, dtype=np.uint64)
            advance(len(indices))
    return (sums / len(image_set)).astype(np.float32)


def training_batches(
    data: TrainingData,
    crop: int,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int,
    processes: Processes,
    pool: ThreadPoolExecutor,
    device: torch.device,
) -> Generator[TrainingBatch]:
    """An epoch's batches from number `start` (from 0), this process's share of each; a last one that is not full is left
    out. They are on the CPU, from where they are copied to `device` soon.
    """
    order = epoch_order(seed, epoch, len(data.train))
    labels = targets(data.train, data.classes)
    share = batch_size // processes.count

    def make(number: int) -> TrainingBatch:
        first = number * batch_size + processes.rank * share
        chosen = order[first : first + share]
        pixels = random_crops(squares(data.train, chosen, pool), crop, crop_numbers(seed, epoch, chosen))
        examples = TrainingBatch(torch.from_numpy(pixels), torch.from_numpy(labels[chosen]))
        return examples.pinned() if device.type == "cuda" else examples

    return prefetch(make, range(start, len(order) // batch_size), 1, _AHEAD)


def validation_batches(
    data: TrainingData, crop: int, batch_size: int, processes: Processes, pool: ThreadPoolExecutor
) -> Generator[TrainingBatch]:
    """The central views of all validation photos, this process's share; no photo is in two shares."""
    labels = targets(data.val, data.classes)
    mine = np.arange(processes.rank, len(labels), processes.count)
    size = max(1, batch_size // processes.count)

    def make(number: int) -> TrainingBatch:
        chosen = mine[number * size : (number + 1) * size]
        pixels = np.ascontiguousarray(central_crop(np.stack(squares(data.val, chosen, pool)), crop))
        return TrainingBatch(torch.from_numpy(pixels), torch.from_numpy(labels[chosen]))

    return prefetch(make, range(-(-len(mine) // size)), 1, _AHEAD)
