"""Throughput of data loading on one core: batches of random crops, 224×224, normalised.

    python benchmarks/loading.py [--images FOLDER] [--photos 2000] [--batch 128]

From a packed set, as `train` reads it (it keeps freed memory, see `step.py`), against a folder of JPEGs with torchvision's
ImageFolder and transforms (`loading_peer.py`). The processor time of all threads is measured, so "per second" is per second
of one core. The limit is the time to read each pixel as a byte and to write it as a float32, at the measured memory
bandwidth. The packed pixels are compared with those from torchvision, which need not be installed.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from side_by_side import Device, Goal, Images, Out, Repeats, Row, Work, jpeg_folder, load_peer, report, synchronise, timed
from step import reset_memory_settings

from deconvnet.data import ImageSet, PackedImageSet, Preprocessing, find_images, pack
from deconvnet.data.transforms import central_crop
from deconvnet.environment import keep_freed_memory
from deconvnet.training import read_recipe
from deconvnet.training.data import TrainingBatch, TrainingData, training_batches
from deconvnet.training.stateless_rng import epoch_order

CROP = 224
#: Bytes per image: read as uint8, and written as float32.
_BYTES_PER_IMAGE = CROP * CROP * 3 * (1 + 4)


def epoch_batches(
    image_set: ImageSet, batch_size: int, device: torch.device, pool: ThreadPoolExecutor
) -> Iterator[TrainingBatch]:
    """An epoch's batches, not yet normalised."""
    data = TrainingData(image_set, image_set)
    steps = len(image_set) // batch_size
    batch_indices = epoch_order(0, 1, len(image_set))[: steps * batch_size].reshape(steps, batch_size)
    with closing(training_batches(data, batch_indices, CROP, 0, 1, pool, device)) as batches:
        yield from batches


def max_pixel_difference(packed: PackedImageSet, folder: Path, count: int) -> int:
    """The largest difference, in grey levels, between packed pixels and those that torchvision reads from the JPEGs."""
    from loading_peer import SQUARE
    from torchvision.datasets import ImageFolder

    largest = 0
    index_by_path = {path: index for index, path in enumerate(packed.paths)}
    dataset = ImageFolder(str(folder), SQUARE)
    for number in range(0, len(dataset), -(-len(dataset) // count)):
        square = packed.square(index_by_path["/".join(Path(dataset.samples[number][0]).parts[-2:])])
        largest = max(largest, int(np.abs(square.astype(int) - np.asarray(dataset[number][0])).max()))
    return largest


def bandwidth(size: int = 2**27) -> float:
    """Bytes that one core reads and writes per second while copying `size` bytes."""
    source, target = torch.zeros(size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8)
    works = [Work("copy", lambda: target.copy_(source), 2 * size)]
    return timed(works, 5, torch.device("cpu"))["copy"].highest


def main(
    images: Images = None,
    photos: Annotated[int, typer.Option(help="How many photos; 0: all.")] = 0,
    batch: Annotated[int, typer.Option(min=1)] = 128,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, recipe = torch.device(device), read_recipe("fast")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other use processor time too
    with jpeg_folder(images, photos or None) as folder, tempfile.TemporaryDirectory() as temporary:
        image_set = find_images(folder)
        packed = pack({"": image_set}, Path(temporary) / "packed")[""]
        mean = torch.from_numpy(central_crop(packed.mean[None], CROP)[0].copy()).permute(2, 0, 1)
        preprocessing = Preprocessing(256, CROP, 255.0, mean, torch.full((3, 1, 1), recipe.input_std))
        batch_size = min(batch, len(packed))
        peer = load_peer("loading_peer")

        def run(source: ImageSet, normalise: bool) -> None:
            for training_batch in epoch_batches(source, batch_size, on, pool):
                if normalise:
                    training_batch.to_inputs(preprocessing, recipe, on)
            synchronise(on)

        def run_image_folder() -> None:
            for inputs, targets in peer.batches(folder, batch_size):
                inputs.to(on), targets.to(on)
            synchronise(on)

        count = len(packed) // batch_size * batch_size
        with ThreadPoolExecutor(1) as pool:
            works = [
                Work("packed set", lambda: run(packed, True), count, keep_freed_memory),
                Work("packed set, bytes not yet normalised", lambda: run(packed, False), count, keep_freed_memory),
                Work("deconvnet, folder of JPEGs", lambda: run(image_set, True), count, keep_freed_memory),
            ]
            if peer:
                works.append(Work("ImageFolder and transforms", run_image_folder, count, reset_memory_settings))
            run(packed, True)
            rates = timed(works, repeats, on, time.process_time)
            limit = bandwidth() / _BYTES_PER_IMAGE
        goals, result = [], {"photos": count, "bytes_per_second_of_memory": limit * _BYTES_PER_IMAGE}
        if peer:
            times_peer = rates["packed set"].median / rates["ImageFolder and transforms"].median
            result["grey_levels_apart"] = max_pixel_difference(packed, folder, 50)
            goals = [
                Goal("packed set, times ImageFolder", times_peer, least=10),
                Goal("grey levels between packed pixels and torchvision's", result["grey_levels_apart"], most=1),
            ]
    torch.set_num_threads(threads)

    peers = {"ImageFolder": rates["ImageFolder and transforms"].median} if peer else {}
    rows = [Row(work.name, rates[work.name], peers if "ImageFolder" not in work.name else {}, limit) for work in works]
    report("loading", "photos loaded, by one core", arguments, rows, goals, result, on, out)


if __name__ == "__main__":
    typer.run(main)
