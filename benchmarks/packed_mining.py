"""Mining a packed set at full speed: by batch size, compared with forward passes alone and with reading alone.

    python benchmarks/packed_mining.py PACKED [--network zfnet] [--batches 32,128,512] [--device cuda]

PACKED is one of the folders that `deconvnet pack` makes. The limit is the quicker of the two memory layouts' forward passes
over tensors on the device, as far as the last layer mined, at the same batch size. Reading alone gives the views as bytes,
with their checksums, as mining reads them: where that is the slower, the device waits for photos.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from side_by_side import Device, Out, Repeats, Row, UpTo, Work, forward_passes, numbers, report, timed

from deconvnet.data import ImageSet, batches, find_images
from deconvnet.mining import mine
from deconvnet.models import Network, load


def read_all(network: Network, image_set: ImageSet, size: int) -> None:
    with closing(batches(image_set, network.preprocessing.view_pixels, size)) as read:
        for batch in read:
            batch.checksums()


def main(
    packed: Annotated[Path, typer.Argument(help="A packed set.")],
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS")] = "zfnet",
    batch_sizes: Annotated[str, typer.Option("--batches", help="Sizes of batches.")] = "32,128,512",
    photos: Annotated[int, typer.Option(min=1, help="How many photos to mine, at most.")] = 10_000,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, net, whole = torch.device(device), load(network).to(device), find_images(packed)
    image_set = replace(whole, paths=whole.paths[:photos])
    count, crop, rows = len(image_set), net.preprocessing.crop, []
    last = net.layer(net.convolutional_layers[-1]).index
    for size in numbers(batch_sizes):
        first = replace(image_set, paths=image_set.paths[:size])
        mine(net, first, batch_size=size)  # first calls are slower
        passes = forward_passes(UpTo(net.module, last), torch.randn(size, 3, crop, crop), -(-count // size), on)
        works = [
            Work("mining", lambda size=size: mine(net, image_set, batch_size=size), count),  # type: ignore[misc]
            Work("reading alone", lambda size=size: read_all(net, image_set, size), count),  # type: ignore[misc]
            *passes,
        ]
        rates = timed(works, repeats, on)
        limit = max(rates[work.name].median for work in passes)
        rows += [Row(f"batch {size}: {work.name}", rates[work.name], {}, limit) for work in works]
    report("packed_mining", f"photos mined, {net.full_name}", arguments, rows, [], {"photos": count}, on, out)


if __name__ == "__main__":
    typer.run(main)
