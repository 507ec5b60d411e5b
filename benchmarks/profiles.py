"""Where the time goes: mining, projecting, occluding and training, by kind of operation.

    python benchmarks/profiles.py [--network alexnet:random] [--images FOLDER]

Each is done by one thread, so that the profiler sees all of it and nothing waits: milliseconds of one core for each photo,
activation, position or photo of a training step.
"""

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from side_by_side import RESULTS, Images, Out, jpeg_folder, machine
from step import ZFNetTraining
from torch.profiler import ProfilerActivity, profile, record_function

from deconvnet.atlas.project_units import project_units
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.mining import mine
from deconvnet.models import Network, load, parallel_map
from deconvnet.training.data import TrainingBatch

#: Kinds of operations, by what their names begin with; the first that fits counts.
KINDS = {
    "reading photos": ("reading",),
    # Slow ones are bfloat16's on a processor that has no instructions for it.
    "convolutions, forward": ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::thnn_conv2d"),
    "convolutions, back": (
        "aten::convolution_backward",
        "aten::mkldnn_convolution_backward",
        "aten::_slow_conv2d_backward",
    ),
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::mkldnn_linear"),
    "pooling": ("aten::max_pool2d", "aten::_adaptive_avg_pool2d", "aten::adaptive"),
    "copying and filling": ("aten::copy_", "aten::fill_", "aten::cat", "aten::masked_fill", "aten::zero_", "aten::clone"),
    "maxima and their places": ("aten::amax", "aten::argmax", "aten::index", "aten::nonzero", "aten::sort"),
    "updating weights": ("aten::_foreach", "Optimizer"),
}

#: Who computes on each core.
USERS = ("mining.mine_batches", "atlas.project_units", "experiments.fig7_occlusion.compute")


def by_one(
    network: Network, read: Callable[[Any], Any], compute: Callable[..., Any], items: Iterable[Any], *_: Any
) -> Iterator[Any]:
    """What stands in for `parallel_map`."""
    for item in items:
        with record_function("reading"):
            ready = read(item)
        yield compute(network, ready)


@contextmanager
def alone() -> Iterator[None]:
    """Within, all is done by the thread that asks for it."""
    modules = [importlib.import_module(f"deconvnet.{name}") for name in USERS]
    threads, each = torch.get_num_threads(), parallel_map
    torch.set_num_threads(1)
    for module in modules:
        module.parallel_map = by_one  # type: ignore[attr-defined]
    yield
    for module in modules:
        module.parallel_map = each  # type: ignore[attr-defined]
    torch.set_num_threads(threads)


def profiled(run: Callable[[], Any], amount: int) -> dict[str, float]:
    """Milliseconds for each of so many, by kind."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    found: defaultdict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), "all else")
        found[kind] += event.self_cpu_time_total / 1e3 / amount
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS, a classifier of 224×224 pixels.")] = "alexnet:random",
    images: Images = None,
    photos: Annotated[int, typer.Option(min=1, help="How many to mine.")] = 256,
    units: Annotated[int, typer.Option(min=1, help="Units of each layer that are projected.")] = 32,
    size: Annotated[int, typer.Option(min=1, help="Pixels of the occluder.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Of the training step.")] = 64,
    hidden: Annotated[int, typer.Option(min=1, help="Units of fc6 and fc7 of the ZFNet that is trained.")] = 4096,
    out: Out = None,
) -> None:
    net = load(network)
    found: dict[str, dict[str, float]] = {}
    with alone(), jpeg_folder(images, photos) as folder:
        mined = mine(net, folder)
        found["mining, a photo"] = profiled(lambda: mine(net, folder), mined.read_count)
        for layer, hits in mined.layers.items():
            chosen = list(range(min(units, len(hits))))
            count = int((hits.topk.images[chosen] >= 0).sum())
            found[f"projecting, an activation of {layer}"] = profiled(
                lambda hits=hits, chosen=chosen: list(project_units(net, hits, chosen)),
                max(count, 1),  # type: ignore[misc]
            )
        x = net.preprocess(mined.image_set.read(0))
        occluder = Occluder(size)
        corners = occluder.corners(net.preprocessing.crop)
        found["occluding, a position"] = profiled(
            lambda: forward_occluded_in_batches(net, x, occluder, corners, net.convolutional_layers[-1], 0), len(corners)
        )
        pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8)
        examples = TrainingBatch(pixels, torch.randint(0, 1000, (batch,)))
        for recipe in ("fast", "paper"):
            ours = ZFNetTraining(recipe, hidden, torch.device("cpu"))
            found[f"a photo of a training step of zfnet, {recipe}"] = profiled(
                lambda ours=ours: ours.step(examples),
                batch,  # type: ignore[misc]
            )
    show(found, network, out or RESULTS / "profiles.json")


def show(found: dict[str, dict[str, float]], network: str, out: Path) -> None:
    """Print a table, and write it as JSON."""
    table = Table("work", "ms of one core", "of which", title=network)
    for work, kinds in found.items():
        total = sum(kinds.values())
        parts = [f"{kind} {value / total:.0%}" for kind, value in kinds.items() if value >= 0.01 * total]
        table.add_row(work, f"{total:.2f}", ", ".join(parts))
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"network": network, "milliseconds": found, "machine": machine(torch.device("cpu"))}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
