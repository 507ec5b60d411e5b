"""A training step of ZFNet: normalising, forward, backward, update and filter renormalisation, of photos in memory.

    python benchmarks/step.py [--batches 64,128] [--images FOLDER] [--device cuda]

Ours with the recipes `fast` (bfloat16, channels_last) and `paper` (float32), against the plain step (`step_peer.py`:
`nn.LocalResponseNorm`, float32, default layout), whose inputs are normalised beforehand. The limit is the same convolutions
and matrix products, forward and backward, alone: for `fast` in bfloat16, for the others in float32, in channels_last.

`train` keeps freed memory (`deconvnet.environment`). That is a setting of the process, so it is made before each of our turns,
and before the plain step's turn put back to what glibc does by itself; the first step of each turn does not count. Then
we train on a packed set, and the share of the time is taken in which the next batch was waited for.
"""

import copy
import ctypes
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from side_by_side import Device, Goal, Images, Out, Rate, Repeats, Row, Work, jpeg_folder, numbers, report, timed
from step_peer import step, zfnet
from torch import Tensor, nn

from deconvnet.data import (
    PackedImageSet,
    find_images,
    imagenet_classes,
    pack,
)
from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.tracing import exact_float32
from deconvnet.training import read_recipe
from deconvnet.training.data import TrainingBatch, TrainingData, training_batches
from deconvnet.training.filter_renormalisation import renormalise
from deconvnet.training.normalise import Normalise
from deconvnet.training.setup import prepared, untrained_network
from deconvnet.training.throughput import Throughput


class Ours:
    """ZFNet in training by a recipe, as `deconvnet.training.loop` does it."""

    def __init__(self, recipe: str, hidden: int, device: torch.device) -> None:
        self.recipe = replace(read_recipe(recipe), network={"hidden": hidden})
        classes = tuple(wordnet for wordnet, _ in imagenet_classes())
        net = untrained_network("zfnet", len(classes), self.recipe, recipe, 0)
        net = prepared(net, classes, np.full((256, 256, 3), 116, np.float32), self.recipe).to(device)
        self.module, self.crop = net.module.train(), net.preprocessing.crop
        if self.recipe.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.normalise = Normalise(net.preprocessing, self.recipe, device)
        self.optimiser = _momentum(self.module)

    def loss(self, examples: TrainingBatch) -> Tensor:
        inputs, targets = self.normalise(examples)
        with self.normalise.autocast():
            logits = self.module(inputs).float()
        return F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)

    def step(self, examples: TrainingBatch) -> None:
        loss = self.loss(examples)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        renormalise(self.module, self.recipe.largest_rms)
        float(loss.detach())  # as the loop does: a GPU is waited for


@dataclass(frozen=True)
class Product:
    """A convolution or a matrix product of the network, with what comes in and what comes back."""

    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    input: Tensor
    weight: Tensor
    bias: Tensor
    back: Tensor
    lowest: bool
    """Nobody asks for the gradient of pixels."""

    def __call__(self) -> None:
        wanted = [self.weight, self.bias] if self.lowest else [self.input, self.weight, self.bias]
        torch.autograd.grad(self.compute(self.input, self.weight, self.bias), wanted, self.back)


def products(module: nn.Module, batch: int, crop: int, dtype: torch.dtype, device: torch.device) -> list[Product]:
    """Those of a whole step, on random numbers."""
    found: list[Product] = []

    def random(shape: Any) -> Tensor:
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        return torch.randn(shape, device=device).to(dtype, memory_format=layout)

    def note(part: Any, inputs: Any, output: Tensor) -> None:
        shape = (batch, *inputs[0].shape[1:])
        compute: Any = F.linear
        if isinstance(part, nn.Conv2d):
            stride, padding = part.stride, part.padding
            compute = lambda x, weight, bias: F.conv2d(x, weight, bias, stride, padding)  # noqa: E731
        x, weight, bias = (random(tuple(size)).requires_grad_() for size in (shape, part.weight.shape, part.bias.shape))
        lowest = not found
        found.append(
            Product(compute, x.requires_grad_(not lowest), weight, bias, random((batch, *output.shape[1:])), lowest)
        )

    kinds = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    hooks = [part.register_forward_hook(note) for part in kinds]
    with torch.no_grad():
        module(torch.zeros(1, 3, crop, crop, device=device))
    for hook in hooks:
        hook.remove()
    return found


def usual_memory() -> None:
    """Let glibc give back what is freed, as it does unless `keep_freed_memory` has told it otherwise.

    By itself it learns as it goes from which size on blocks are given back at once: at most 32 MB, and that it has learnt
    after the first step.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        trim_threshold, top_pad, mmap_threshold, mmap_max = -1, -2, -3, -4  # of <malloc.h>
        library.mallopt(mmap_max, 65536)
        library.mallopt(mmap_threshold, 2**25)
        library.mallopt(trim_threshold, 2**26)
        library.mallopt(top_pad, 2**17)
        library.malloc_trim(0)


def difference(plain: nn.Module, paper: Ours, examples: TrainingBatch) -> dict[str, float]:
    """How far the plain step's loss and its gradient of the first filters are, relatively, from those of `paper`.

    The gradient in float64, since float32's rounding may turn a switch or a ReLU, which moves it by per cents.
    """
    with torch.no_grad():
        for own, weights in zip(plain.parameters(), paper.module.parameters(), strict=True):
            own.copy_(weights)
    inputs, targets = paper.normalise(examples)
    with exact_float32(), torch.no_grad():
        torch.manual_seed(0)  # the same units are dropped
        found = float(F.cross_entropy(plain(inputs), targets))
        torch.manual_seed(0)
        wanted = float(paper.loss(examples))
    gradients = []
    for module in (copy.deepcopy(plain).double(), copy.deepcopy(paper.module).double()):
        torch.manual_seed(0)
        loss = F.cross_entropy(module(inputs.double()), targets)
        gradients += torch.autograd.grad(loss, [next(module.parameters())])
    return {
        "loss": abs(found - wanted) / abs(wanted),
        "gradient_of_first_filters": float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
    }


def waiting(ours: Ours, photos: PackedImageSet, batch: int, device: torch.device) -> dict[str, float]:
    """Train on a packed set: photos per second, and the share of the time in which the next batch was waited for."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        data = TrainingData(photos, photos)
        with closing(training_batches(data, ours.crop, batch, 0, 1, 0, Processes(), pool, device)) as batches:
            ours.step(next(batches))  # the first one is always waited for, which a long epoch does not notice
            pace = Throughput()
            for examples in pace.timed(batches):
                ours.step(examples)
            return {"photos_per_second": pace.photos_per_second, "waiting": pace.waiting}


def measure(
    batch: int, hidden: int, steps: int, long: int, folder: Path, repeats: int, on: torch.device
) -> tuple[list[Row], list[Goal], dict[str, Any]]:
    """One size of batches."""
    fast, paper, plain = Ours("fast", hidden, on), Ours("paper", hidden, on), zfnet(hidden=hidden).to(on).train()
    pixels = torch.randint(0, 256, (batch, paper.crop, paper.crop, 3), dtype=torch.uint8)
    examples = TrainingBatch(pixels, torch.randint(0, 1000, (batch,)))
    apart = difference(plain, paper, examples)
    inputs, targets = paper.normalise(examples)
    optimiser = _momentum(plain)

    def turn(name: str, once: Callable[[], Any], memory: Callable[[], None] = keep_freed_memory) -> Work:
        def before() -> None:
            memory()
            once()

        def run() -> None:
            for _ in range(steps):
                once()

        return Work(name, run, steps * batch, before)

    limits = {
        "float32": products(plain, batch, paper.crop, torch.float32, on),
        "bfloat16": products(plain, batch, paper.crop, torch.bfloat16, on),
    }
    works = [
        turn("deconvnet, fast", lambda: fast.step(examples)),
        turn("deconvnet, paper", lambda: paper.step(examples)),
        turn("plain step", lambda: step(plain, optimiser, inputs, targets), usual_memory),
        *(turn(f"products alone, {name}", lambda each=each: [one() for one in each]) for name, each in limits.items()),  # type: ignore[misc]
    ]
    rates = timed(works, repeats, on)
    keep_freed_memory()
    with jpeg_folder(folder, (long + 1) * batch) as photos, tempfile.TemporaryDirectory() as temporary:
        packed = pack({"": find_images(photos)}, Path(temporary) / "packed")[""]
        training = waiting(fast, packed, batch, on)

    peer = rates["plain step"].median
    rows = [
        _row(batch, "deconvnet, fast", rates, "bfloat16", {"plain step": peer}),
        _row(batch, "deconvnet, paper", rates, "float32", {"plain step": peer}),
        _row(batch, "plain step", rates, "float32", {}),
        *(_row(batch, f"products alone, {name}", rates, name, {}) for name in limits),
    ]
    goals = [
        Goal(f"batch {batch}: fast, times the plain step", rates["deconvnet, fast"].median / peer, least=2.5),
        Goal(f"batch {batch}: share of the time waited for data", training["waiting"], most=0.02),
    ]
    found = {"from_packed_set": training, "relative_difference_of_plain_step": apart}
    return rows, goals, {f"batch {batch}": found}


def main(
    batches: Annotated[str, typer.Option(help="Sizes of batches.")] = "64,128",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each turn that are timed.")] = 3,
    long: Annotated[int, typer.Option(min=1, help="Steps on a packed set.")] = 20,
    hidden: Annotated[int, typer.Option(min=1, help="Units of fc6 and fc7.")] = 4096,
    images: Images = None,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on = torch.device(device)
    rows: list[Row] = []
    goals: list[Goal] = []
    found: dict[str, Any] = {}
    with jpeg_folder(images) as folder:
        for batch in numbers(batches):
            more = measure(batch, hidden, steps, long, folder, repeats, on)
            rows, goals, found = rows + more[0], goals + more[1], found | more[2]
    usual_memory()
    report("step", "photos in training steps of zfnet", arguments, rows, goals, found, on, out)


def _row(batch: int, name: str, rates: dict[str, Rate], limit: str, peers: dict[str, float]) -> Row:
    return Row(f"batch {batch}: {name}", rates[name], peers, rates[f"products alone, {limit}"].median)


def _momentum(module: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)


if __name__ == "__main__":
    typer.run(main)
