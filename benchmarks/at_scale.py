"""On paper: ImageNet and a hundred times as many photos, on one GPU, eight, and four machines of eight.

    python benchmarks/at_scale.py

Nothing here is timed. Rates of the processor are those in benchmarks/results, sizes are those of the objects themselves. A
GPU is taken to do `--float32` and `--bfloat16` multiply-adds a second, by default half of what NVIDIA's data sheet promises
of an H200 in float32 without TF32, and a quarter in bfloat16. Prints two tables in Markdown.
"""

import json
import tracemalloc
from pathlib import Path
from typing import Annotated

import torch
import typer
from layout import multiply_adds
from torch.utils.flop_counter import FlopCounterMode

from deconvnet.data import ImageSet
from deconvnet.mining import MiningKey
from deconvnet.mining.state import MiningState
from deconvnet.models import load

RESULTS = Path(__file__).parent / "results"
PHOTOS = {"ImageNet": 1_281_167, "100 × ImageNet": 128_116_700}
MACHINES = {"1 GPU": (1, 1), "8 GPUs": (1, 8), "4 × 8 GPUs": (4, 8)}
SQUARE_BYTES = 256 * 256 * 3
CLASSES, EPOCHS, BATCH = 1000, 70, 128


def rate(benchmark: str, row: str) -> float:
    """The median rate of a row of a benchmark's results."""
    rows = json.loads((RESULTS / f"{benchmark}.json").read_text())["rows"]
    return next(entry["per_second"]["median"] for entry in rows if entry["what"] == row)


def bytes_per_photo() -> float:
    """What mining keeps in memory of each photo, in bytes: its path, its class and whether it is done."""
    count = 100_000
    tracemalloc.start()
    paths = tuple(f"n{index % CLASSES:08}/n{index % CLASSES:08}_{index}.JPEG" for index in range(count))
    image_set = ImageSet(Path("photos"), paths)
    kept = image_set.labels, torch.arange(count), torch.zeros(count, dtype=torch.bool)  # tensors are not traced
    used = tracemalloc.get_traced_memory()[0] + sum(tensor.nbytes for tensor in kept[1:])
    tracemalloc.stop()
    return used / count


def state_bytes(network: str) -> int:
    """The state of mining the convolutional layers, without what it keeps of each photo."""
    loaded = load(network)
    layers = {name: loaded.layer(name).units for name in loaded.convolutional_layers}
    return len(MiningState(MiningKey("", "", "", 0, CLASSES, layers, 9, {})).to_bytes())


def forward_multiply_adds(network: str) -> float:
    """Those of one photo as far as the last convolutional layer."""
    loaded = load(network)
    size, last = loaded.preprocessing.crop, loaded.convolutional_layers[-1]  # traced before anything is counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.activations(torch.zeros(1, 3, size, size), last)
    return counter.get_total_flops() / 2


def table(header: list[str], rows: list[list[str]]) -> None:
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(cells) + " |")
    print()


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count:.0f} bytes"


def main(
    float32: Annotated[float, typer.Option(help="Multiply-adds of a GPU in a second.")] = 33.5e12 / 2,
    bfloat16: Annotated[float, typer.Option(help="The same in bfloat16.")] = 494.5e12 / 4,
    disk: Annotated[float, typer.Option(help="Bytes in a second that a machine reads from its disk.")] = 5e9,
    link: Annotated[float, typer.Option(help="Bytes in a second between the GPUs of one machine.")] = 450e9,
    wire: Annotated[float, typer.Option(help="Bytes in a second between two machines.")] = 50e9,
    cores: Annotated[int, typer.Option(help="Cores for each GPU.")] = 16,
) -> None:
    forward, per_photo, state = forward_multiply_adds("alexnet:random"), bytes_per_photo(), state_bytes("alexnet:random")
    jpegs = rate("loading", "deconvnet, folder of JPEGs")
    print(f"Mining AlexNet's convolutional layers: {forward / 1e6:.0f} million multiply-adds a photo.")
    print(f"A state is {size(state)}, and each photo takes {per_photo:.0f} bytes more.\n")
    rows = []
    for photos, count in PHOTOS.items():
        for name, (machines, gpus) in MACHINES.items():
            times = {
                "GPUs": count * forward / (float32 * machines * gpus),
                "JPEGs": count / (jpegs * cores * machines * gpus),
                "disk": count * SQUARE_BYTES / (disk * machines),
            }
            from_jpegs, packed = max(times["GPUs"], times["JPEGs"]), max(times["GPUs"], times["disk"])
            cells = [duration(times[key]) for key in ("GPUs", "JPEGs", "disk")]
            sent = 2 * (machines * gpus - 1) * (state + count)
            memory = size(state + per_photo * count)
            limit = max(("GPUs", "disk"), key=times.__getitem__)
            rows.append(
                [f"{photos}, {name}", *cells, duration(from_jpegs), f"{duration(packed)} ({limit})", memory, size(sent)]
            )
    table(
        [
            "",
            "computing",
            "decoding JPEGs",
            "reading a packed set",
            "from JPEGs",
            "packed (limit)",
            "memory of a process",
            "sent",
        ],
        rows,
    )

    rows = []
    for network in ("alexnet2012", "zfnet"):
        loaded = load(f"{network}:random")
        step = multiply_adds(loaded)["training steps"]
        gradients = sum(parameter.nbytes for parameter in loaded.module.parameters())
        for recipe, speed in (("paper", float32), ("fast", bfloat16)):
            for name, (machines, gpus) in MACHINES.items():
                count = machines * gpus
                computing = BATCH * step / (speed * count)
                sent = 2 * (count - 1) / count * gradients
                sending = sent / (wire if machines > 1 else link) if count > 1 else 0.0
                rates = {  # gradients are sent, and photos read, while others are computed
                    "computing": BATCH / computing,
                    "gradients": BATCH / sending if sending else float("inf"),
                    "disk": disk * machines / SQUARE_BYTES,
                }
                limit = min(rates, key=rates.__getitem__)
                photos = rates[limit]
                cells = [f"{computing * 1e3:.2f} ms", f"{sending * 1e3:.2f} ms", f"{photos:,.0f} ({limit})"]
                total = duration(EPOCHS * PHOTOS["ImageNet"] / photos)
                rows.append([f"{network}, {recipe}, {name}", *cells, size(photos * SQUARE_BYTES / machines), total])
    header = ["", "computing a step", "sending its gradients", "photos a second (limit)", "read a second by a machine"]
    table([*header, f"{EPOCHS} epochs of ImageNet"], rows)


if __name__ == "__main__":
    typer.run(main)
