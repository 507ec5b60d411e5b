"""Growth: mining 1,000, 4,000 and 13,000 photos. Time is to be linear, and peak memory constant.

    python benchmarks/growth.py [--network alexnet:random] [--images FOLDER] [--sizes 1000,4000,13000] [--device cuda]

Each size in processes of its own, one after the other, because peak memory can only be read for a whole process. One is
timed; in the other glibc returns freed blocks to the system at once (`MALLOC_MMAP_THRESHOLD_`), as what it keeps otherwise
differs by 60 MB between two runs of the same size. Where there are fewer photos, they come several times.
"""

import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from side_by_side import Device, Goal, Images, Out, Rate, Row, jpeg_folder, numbers, report

from deconvnet.data import find_images
from deconvnet.mining import mine
from deconvnet.models import load


def measure(network: str, folder: Path, device: str) -> tuple[float, float]:
    """Seconds, and the peak memory of this process in MB."""
    net, image_set = load(network).to(device), find_images(folder)
    mine(net, replace(image_set, paths=image_set.paths[:64]))  # first calls are slower
    start = time.perf_counter()
    mine(net, image_set)
    return time.perf_counter() - start, peak_memory()


def in_a_process(network: str, folder: Path, device: str, environment: dict[str, str]) -> tuple[float, float]:
    """`measure` in a new process that has these environment variables too."""
    before = dict(os.environ)
    os.environ |= environment
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, network, folder, device).result()
    finally:
        os.environ.clear()
        os.environ |= before


def peak_memory() -> float:
    """Peak memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, `getrusage` includes what the parent held when it started this process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS")] = "alexnet:random",
    images: Images = None,
    sizes: Annotated[str, typer.Option(help="How many photos to mine, one run for each number.")] = "1000,4000,13000",
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    rows, megabytes, kept = [], {}, {}
    with jpeg_folder(images) as all_images:
        for size in numbers(sizes):
            with jpeg_folder(all_images, size) as folder:
                seconds, kept[size] = in_a_process(network, folder, device, {})
                _, megabytes[size] = in_a_process(network, folder, device, {"MALLOC_MMAP_THRESHOLD_": str(2**20)})
            rows.append(Row(f"{size:,} photos, {megabytes[size]:.0f} MB", Rate(size, (seconds,))))
    rates = [row.rate.median for row in rows]
    goals = [
        Goal("seconds per photo, the most as against the least", max(rates) / min(rates), most=1.1),
        Goal("MB of peak memory, the most less the least", max(megabytes.values()) - min(megabytes.values()), most=50),
    ]
    found = {"peak_MB": megabytes, "peak_MB_with_what_glibc_keeps": kept}
    report("growth", f"photos mined, {network}", arguments, rows, goals, found, torch.device(device), out)


if __name__ == "__main__":
    typer.run(main)
