"""How fast an atlas is made, and with how much memory: photos mined per second, activations projected per second.

    python benchmarks/atlas.py [--network NETWORK] [--images FOLDER] [--photos 200,400,800]

Without arguments: torchvision's AlexNet untrained (the work is the same) over scikit-image's photos, so it runs offline.
Each size is mined in a process of its own, because peak memory can only be read for a whole process.
"""

import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from deconvnet.atlas.project_hits import project_hits
from deconvnet.demo import write_views
from deconvnet.images import Photos, find_photos
from deconvnet.mining import mine
from deconvnet.networks import load

RESULTS = Path(__file__).parent / "results"


def peak_memory() -> float:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def measure_mining(network: str, photos: Photos, answers: Any) -> None:
    """Mine all convolutional layers; puts photos per second and peak memory."""
    net = load(network)
    mine(net, replace(photos, paths=photos.paths[:32]))  # first calls are slower
    start = time.perf_counter()
    mine(net, photos)
    answers.put({"photos": len(photos), "per_second": len(photos) / (time.perf_counter() - start), "peak_MB": peak_memory()})


def measure_projecting(network: str, photos: Photos, answers: Any, units: int = 16) -> None:
    """Project nine hits of some units of each convolutional layer; puts projections per second by layer."""
    net = load(network)
    mined = mine(net, replace(photos, paths=photos.paths[:100]))
    found = {}
    for name, hits in mined.layers.items():
        list(project_hits(net, hits, [0]))
        start = time.perf_counter()
        count = sum(len(pieces.patches) for pieces in project_hits(net, hits, list(range(units))))
        found[name] = count / (time.perf_counter() - start)
    answers.put({"per_second": found, "peak_MB": peak_memory()})


def alone(work: Any, *arguments: Any) -> Any:
    """Run `work` in a fresh process and return what it puts."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=work, args=(*arguments, answers))
    process.start()
    answer = answers.get()
    process.join()
    return answer


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS")] = "alexnet:random",
    images: Annotated[Path | None, typer.Option(help="A folder of photos.  [default: scikit-image's views]")] = None,
    photos: Annotated[str, typer.Option(help="How many photos to mine, one run for each number.")] = "150,300,600",
) -> None:
    """Measure, print a table, and write the numbers to benchmarks/results."""
    with tempfile.TemporaryDirectory() as folder:
        if images is None:
            write_views(Path(folder))
        every = find_photos(images or folder)
        sizes = [min(int(size), len(every)) for size in photos.split(",")]
        mining = [alone(measure_mining, network, replace(every, paths=every.paths[:size])) for size in sizes]
        projecting = alone(measure_projecting, network, every)

    table = Table("work", "n", "per second", "peak memory", title=f"{network}, {torch.get_num_threads()} threads")
    for row in mining:
        table.add_row("photos mined", f"{row['photos']:,}", f"{row['per_second']:.0f}", f"{row['peak_MB']:.0f} MB")
    for layer, rate in projecting["per_second"].items():
        table.add_row(f"activations of {layer} projected", "144", f"{rate:.0f}", f"{projecting['peak_MB']:.0f} MB")
    Console().print(table)

    result = {
        "network": load(network).full_name,
        "images": "scikit-image's views" if images is None else images.name,
        "mining": mining,
        "projecting": projecting,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    name = "atlas.json" if images is None else f"atlas-{network.partition(':')[0]}-{images.name}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
