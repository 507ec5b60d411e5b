"""Loading: random crops of 224×224 for training, normalised, in batches; photos per second of one core.

    python benchmarks/loading.py [--images FOLDER] [--photos 2000] [--batch 128]

From a packed set, as `train` reads it (it keeps freed memory, see `step.py`), against a folder of JPEGs with torchvision's
ImageFolder and transforms (`loading_peer.py`). Measured is the processor time of all threads, so "per second" is what one
core does in a second. The limit is what the bytes cost at the measured bandwidth of memory: each pixel read as a byte and
written as a float32. Before that, the packed pixels are compared with those that torchvision makes.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated

import loading_peer
import numpy as np
import torch
import typer
from side_by_side import Device, Goal, Images, Out, Repeats, Row, Work, jpeg_folder, report, synchronise, timed
from step import usual_memory
from torchvision.datasets import ImageFolder

from deconvnet.data import (
    ImageSet,
    PackedImageSet,
    Preprocessing,
    find_images,
    pack,
)
from deconvnet.data.transforms import central_crop
from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.training import read_recipe
from deconvnet.training.data import TrainingBatch, TrainingData, training_batches
from deconvnet.training.normalise import Normalise

CROP = 224
#: Bytes of one photo: read, and written as float32.
_BYTES = CROP * CROP * 3 * (1 + 4)


def ours(photos: ImageSet, batch: int, device: torch.device, pool: ThreadPoolExecutor) -> Iterator[TrainingBatch]:
    """An epoch's batches, not yet normalised."""
    data = TrainingData(photos, photos)
    with closing(training_batches(data, CROP, batch, 0, 1, 0, Processes(), pool, device)) as batches:
        yield from batches


def pixels_apart(packed: PackedImageSet, folder: Path, count: int) -> int:
    """The largest difference, in grey levels, between packed pixels and those that torchvision makes of the JPEGs."""
    largest = 0
    places = {path: index for index, path in enumerate(packed.paths)}
    dataset = ImageFolder(str(folder), loading_peer.SQUARE)
    for number in range(0, len(dataset), -(-len(dataset) // count)):
        own = packed.square(places["/".join(Path(dataset.samples[number][0]).parts[-2:])])
        largest = max(largest, int(np.abs(own.astype(int) - np.asarray(dataset[number][0])).max()))
    return largest


def bandwidth(size: int = 2**27) -> float:
    """Bytes of memory that one core reads and writes in a second, in a copy of `size` bytes."""
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
        found = find_images(folder)
        packed = pack({"": found}, Path(temporary) / "packed")[""]
        mean = torch.from_numpy(central_crop(packed.mean[None], CROP)[0].copy()).permute(2, 0, 1)
        preprocessing = Preprocessing(256, CROP, 255.0, mean, torch.full((3, 1, 1), recipe.deviation))
        normalise, batch = Normalise(preprocessing, recipe, on), min(batch, len(packed))
        apart = pixels_apart(packed, folder, 50)

        def run(source: ImageSet, ready: bool) -> None:
            for examples in ours(source, batch, on, pool):
                if ready:
                    normalise(examples)
            synchronise(on)

        def usual() -> None:
            for inputs, targets in loading_peer.batches(folder, batch):
                inputs.to(on), targets.to(on)

        count = len(packed) // batch * batch
        with ThreadPoolExecutor(1) as pool:
            works = [
                Work("packed set", lambda: run(packed, True), count, keep_freed_memory),
                Work("packed set, bytes not yet normalised", lambda: run(packed, False), count, keep_freed_memory),
                Work("deconvnet, folder of JPEGs", lambda: run(found, True), count, keep_freed_memory),
                Work("ImageFolder and transforms", usual, count, usual_memory),
            ]
            run(packed, True)
            rates = timed(works, repeats, on, time.process_time)
            limit = bandwidth() / _BYTES
    torch.set_num_threads(threads)

    peer = rates["ImageFolder and transforms"].median
    rows = [Row(name, rates[name], {"ImageFolder": peer}, limit) for name in list(rates)[:-1]]
    rows.append(Row("ImageFolder and transforms", rates["ImageFolder and transforms"], {}, limit))
    goals = [
        Goal("packed set, times ImageFolder", rates["packed set"].median / peer, least=10),
        Goal("grey levels between packed pixels and torchvision's", apart, most=1),
    ]
    result = {"photos": count, "bytes_per_second_of_memory": limit * _BYTES, "grey_levels_apart": apart}
    report("loading", "photos loaded, by one core", arguments, rows, goals, result, on, out)


if __name__ == "__main__":
    typer.run(main)
