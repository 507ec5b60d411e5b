"""Which memory layout is faster on a device, channels last or contiguous: forward passes and whole training steps.

    python benchmarks/layout.py [--networks alexnet2012,zfnet] [--device cuda]

In float32 (no TF32) and bfloat16. Inputs and weights lie in memory in the layout that is measured; the pixels of a training
step come as bytes with their channels last, as `train` reads them, and are brought into that layout within the step. Steps
are those of the recipe `fast` but for precision and layout. The limit is what the device makes of the same multiply-adds
in a matrix product or a convolution, so that "of the limit" is the share of its peak.
"""

import copy
from dataclasses import replace
from typing import Annotated, Any

import torch
import typer
from side_by_side import Device, Out, Repeats, Row, Work, matrix_rate, numbers, report, timed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deconvnet.models import Network, load
from deconvnet.training import read_recipe
from training import training_step

LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def multiply_adds(network: Network) -> dict[str, float]:
    """Those of one photo, in a forward pass and in a training step."""
    crop = network.preprocessing.crop
    module = copy.deepcopy(network.module).cpu()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        module(torch.zeros(1, 3, crop, crop))
    with FlopCounterMode(display=False) as step:
        module(torch.zeros(1, 3, crop, crop)).sum().backward()
    return {"forward passes": forward.get_total_flops() / 2, "training steps": step.get_total_flops() / 2}


def passes(
    network: Network, dtype: torch.dtype, layout: torch.memory_format, batch: int, count: int, device: torch.device
) -> Work:
    crop = network.preprocessing.crop
    module: nn.Module = copy.deepcopy(network.module).eval().to(device, dtype, memory_format=layout)
    inputs = torch.randn(batch, 3, crop, crop, device=device).to(dtype).contiguous(memory_format=layout)

    def run(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                module(inputs)

    return Work("forward passes", lambda: run(count), batch * count, lambda: run(1))


def steps(network: Network, dtype: str, layout: torch.memory_format, batch: int, count: int, device: torch.device) -> Work:
    recipe = replace(read_recipe("fast"), precision=dtype, batch_size=batch)
    step = training_step(network.name, recipe, device, layout)

    def run() -> None:
        for _ in range(count):
            step()

    return Work("training steps", run, batch * count, step)


def main(
    networks: Annotated[str, typer.Option(help="Networks of ours, of which each can be trained.")] = "alexnet2012,zfnet",
    dtypes: Annotated[str, typer.Option(help="float32, bfloat16 or both.")] = "float32,bfloat16",
    batches: Annotated[str, typer.Option(help="Sizes of the batches of forward passes.")] = "32,256",
    batch: Annotated[int, typer.Option(min=1, help="Size of the batches of training steps.")] = 128,
    count: Annotated[int, typer.Option(min=1, help="Batches of each turn.")] = 10,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, rows, fastest = torch.device(device), [], {}
    peaks = {dtype: matrix_rate(on, DTYPES[dtype]) for dtype in dtypes.split(",")}
    for name in networks.split(","):
        network = load(f"{name}:random")
        needed = multiply_adds(network)
        for dtype, peak in peaks.items():
            for size, make in [*((size, passes) for size in numbers(batches)), (batch, steps)]:
                what = f"{name}, {dtype}, batch {size}"
                precision: Any = DTYPES[dtype] if make is passes else dtype
                works = {layout: make(network, precision, LAYOUTS[layout], size, count, on) for layout in LAYOUTS}
                kind = next(iter(works.values())).name
                turns = [Work(layout, work.run, work.amount, work.before) for layout, work in works.items()]
                rates = timed(turns, repeats, on)
                rows += [Row(f"{kind}, {what}, {layout}", rates[layout], {}, peak / needed[kind]) for layout in LAYOUTS]
                ratio = rates["channels last"].median / rates["contiguous"].median
                fastest[f"{kind}, {what}"] = ratio
    found = {"times_as_fast_with_channels_last": fastest, "multiply_adds_per_second": peaks}
    report("layout", "photos, by memory layout", arguments, rows, [], found, on, out)


if __name__ == "__main__":
    typer.run(main)
