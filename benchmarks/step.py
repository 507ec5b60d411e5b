"""Throughput of training steps of ZFNet on images in memory: normalisation, forward, backward, update, renormalisation.

    python benchmarks/step.py [--batches 64,128] [--images FOLDER] [--device cuda]

Ours with the recipes `fast` (bfloat16) and `paper` (float32), against the plain step (`step_peer.py`:
`nn.LocalResponseNorm`, float32, default layout), whose inputs are normalised beforehand. The limit is the time of the
convolutions and matrix products alone, forward and backward, in channels_last: for `fast` in bfloat16, otherwise in float32.

`train` keeps freed memory (`deconvnet.environment`). As that is a setting of the process, it is made before each of our
turns, and reset to glibc's default before the plain step's turn; the first step of each turn is not timed. Finally the
fraction of time spent waiting for data is measured while training on a packed set.
"""

import copy
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from side_by_side import Device, Goal, Images, Out, Rate, Repeats, Row, Work, jpeg_folder, numbers, report, timed
from step_peer import step, zfnet
from torch import Tensor, nn

from deconvnet.data import PackedImageSet, find_images, imagenet_classes, pack
from deconvnet.environment import keep_freed_memory
from deconvnet.tracing import exact_float32
from deconvnet.training import read_recipe
from deconvnet.training.data import TrainingBatch, TrainingData, training_batches
from deconvnet.training.filter_renormalisation import renormalise_filters
from deconvnet.training.stateless_rng import epoch_order
from deconvnet.training.trainer import network_to_train, untrained_module


class ZFNetTraining:
    """ZFNet trained by a recipe, as in `deconvnet.training.trainer`."""

    def __init__(self, recipe_name: str, hidden: int, device: torch.device) -> None:
        self.recipe, self.device = replace(read_recipe(recipe_name), network={"hidden": hidden}), device
        classes = tuple(wordnet_id for wordnet_id, _ in imagenet_classes())
        module, mean = untrained_module("zfnet", len(classes), self.recipe, recipe_name, 0), np.full((256, 256, 3), 116)
        network = network_to_train("zfnet", module, classes, mean.astype(np.float32), self.recipe).to(device)
        self.module, self.preprocessing = network.module.train(), network.preprocessing
        self.module.to(memory_format=self.recipe.memory_format(device))
        self.optimiser = _sgd(self.module)

    def to_inputs(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Normalised inputs and targets, on the device."""
        return batch.to_inputs(self.preprocessing, self.recipe, self.device)

    def loss(self, batch: TrainingBatch) -> Tensor:
        inputs, targets = self.to_inputs(batch)
        with self.recipe.autocast(self.device):
            logits = self.module(inputs).float()
        return F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)

    def step(self, batch: TrainingBatch) -> None:
        loss = self.loss(batch)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        renormalise_filters(self.module, self.recipe.max_filter_rms)
        float(loss.detach())  # waits for the GPU, as the training loop does


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product of the network, with its input and the gradient of its output."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    input: Tensor
    weight: Tensor
    bias: Tensor
    output_gradient: Tensor
    is_first: bool
    """The first layer, whose input, the pixels, needs no gradient."""

    def __call__(self) -> None:
        differentiated = [self.weight, self.bias] if self.is_first else [self.input, self.weight, self.bias]
        torch.autograd.grad(self.function(self.input, self.weight, self.bias), differentiated, self.output_gradient)


def products(module: nn.Module, batch: int, crop: int, dtype: torch.dtype, device: torch.device) -> list[Product]:
    """The products of one training step, with random inputs and weights."""
    result: list[Product] = []

    def random(shape: Any) -> Tensor:
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        return torch.randn(shape, device=device).to(dtype, memory_format=layout)

    def record(layer: Any, inputs: Any, output: Tensor) -> None:
        shape = (batch, *inputs[0].shape[1:])
        function: Any = F.linear
        if isinstance(layer, nn.Conv2d):
            stride, padding = layer.stride, layer.padding
            function = lambda x, weight, bias: F.conv2d(x, weight, bias, stride, padding)  # noqa: E731
        x, weight, bias = (random(tuple(size)).requires_grad_() for size in (shape, layer.weight.shape, layer.bias.shape))
        is_first, output_gradient = not result, random((batch, *output.shape[1:]))
        result.append(Product(function, x.requires_grad_(not is_first), weight, bias, output_gradient, is_first))

    layers = [submodule for submodule in module.modules() if isinstance(submodule, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    with torch.no_grad():
        module(torch.zeros(1, 3, crop, crop, device=device))
    for hook in hooks:
        hook.remove()
    return result


def run_all(products: list[Product]) -> None:
    for product in products:
        product()


def reset_memory_settings() -> None:
    """Let glibc return freed memory to the system, as by default; undoes `keep_freed_memory`.

    By default glibc adapts the size from which blocks are returned at once. The value set here is the maximum, 32 MB, which
    it reaches in the first step.
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


def relative_difference(plain: nn.Module, paper: ZFNetTraining, batch: TrainingBatch) -> dict[str, float]:
    """Relative differences of the plain step's loss, and of its gradient of the first filters, from those of `paper`.

    The gradient is compared in float64: in float32, rounding may change a switch or a ReLU, and the gradient by per cents.
    """
    with torch.no_grad():
        for plain_weight, weight in zip(plain.parameters(), paper.module.parameters(), strict=True):
            plain_weight.copy_(weight)
    inputs, targets = paper.to_inputs(batch)
    with exact_float32(), torch.no_grad():
        torch.manual_seed(0)  # dropout drops the same units
        plain_loss = float(F.cross_entropy(plain(inputs), targets))
        torch.manual_seed(0)
        paper_loss = float(paper.loss(batch))
    gradients: list[Tensor] = []
    for module in (copy.deepcopy(plain).double(), copy.deepcopy(paper.module).double()):
        torch.manual_seed(0)
        loss = F.cross_entropy(module(inputs.double()), targets)
        gradients += torch.autograd.grad(loss, [next(module.parameters())])
    return {
        "loss": abs(plain_loss - paper_loss) / abs(paper_loss),
        "gradient_of_first_filters": float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
    }


def train_packed(training: ZFNetTraining, image_set: PackedImageSet, batch_size: int) -> dict[str, float]:
    """Train on a packed set: images per second, and the fraction of time spent waiting for data."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        data, crop, device = TrainingData(image_set, image_set), training.preprocessing.crop, training.device
        steps = len(image_set) // batch_size
        batch_indices = epoch_order(0, 1, len(image_set))[: steps * batch_size].reshape(steps, batch_size)
        with closing(training_batches(data, batch_indices, crop, 0, 1, pool, device)) as batches:
            training.step(next(batches))  # always waited for, which does not matter in a long epoch
            start = wait_start = time.monotonic()
            waited = 0.0
            for batch in batches:
                waited += time.monotonic() - wait_start
                training.step(batch)
                wait_start = time.monotonic()
            seconds = time.monotonic() - start
            return {"photos_per_second": (steps - 1) * batch_size / seconds, "waiting": waited / seconds}


def measure(
    batch: int, hidden: int, steps: int, long: int, folder: Path, repeats: int, on: torch.device
) -> tuple[list[Row], list[Goal], dict[str, Any]]:
    """Measure one batch size."""
    fast, paper = ZFNetTraining("fast", hidden, on), ZFNetTraining("paper", hidden, on)
    plain, crop = zfnet(hidden=hidden).to(on).train(), paper.preprocessing.crop
    pixels = torch.randint(0, 256, (batch, crop, crop, 3), dtype=torch.uint8)
    examples = TrainingBatch(pixels, torch.randint(0, 1000, (batch,)))
    examples = examples.pinned_for(on)
    differences = relative_difference(plain, paper, examples)
    inputs, targets = paper.to_inputs(examples)
    optimiser = _sgd(plain)

    def turn(name: str, one_step: Callable[[], Any], set_memory: Callable[[], None] = keep_freed_memory) -> Work:
        def before() -> None:
            set_memory()
            one_step()

        def run() -> None:
            for _ in range(steps):
                one_step()

        return Work(name, run, steps * batch, before)

    limits = {
        "float32": products(plain, batch, crop, torch.float32, on),
        "bfloat16": products(plain, batch, crop, torch.bfloat16, on),
    }
    works = [
        turn("deconvnet, fast", lambda: fast.step(examples)),
        turn("deconvnet, paper", lambda: paper.step(examples)),
        turn("plain step", lambda: step(plain, optimiser, inputs, targets), reset_memory_settings),
        *(turn(f"products alone, {name}", partial(run_all, limit)) for name, limit in limits.items()),
    ]
    rates = timed(works, repeats, on)
    keep_freed_memory()
    with jpeg_folder(folder, (long + 1) * batch) as jpegs, tempfile.TemporaryDirectory() as temporary:
        packed = pack({"": find_images(jpegs)}, Path(temporary) / "packed")[""]
        from_packed = train_packed(fast, packed, batch)

    peer = rates["plain step"].median
    rows = [
        _row(batch, "deconvnet, fast", rates, "bfloat16", {"plain step": peer}),
        _row(batch, "deconvnet, paper", rates, "float32", {"plain step": peer}),
        _row(batch, "plain step", rates, "float32", {}),
        *(_row(batch, f"products alone, {name}", rates, name, {}) for name in limits),
    ]
    goals = [
        Goal(f"batch {batch}: fast, times the plain step", rates["deconvnet, fast"].median / peer, least=2.5),
        Goal(f"batch {batch}: paper, times the plain step", rates["deconvnet, paper"].median / peer, least=1.5),
        Goal(f"batch {batch}: share of the time waited for data", from_packed["waiting"], most=0.02),
    ]
    details = {"from_packed_set": from_packed, "relative_difference_of_plain_step": differences}
    return rows, goals, {f"batch {batch}": details}


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
    details: dict[str, Any] = {}
    with jpeg_folder(images) as folder:
        for batch in numbers(batches):
            batch_rows, batch_goals, batch_details = measure(batch, hidden, steps, long, folder, repeats, on)
            rows, goals, details = rows + batch_rows, goals + batch_goals, details | batch_details
    reset_memory_settings()
    report("step", "photos in training steps of zfnet", arguments, rows, goals, details, on, out)


def _row(batch: int, name: str, rates: dict[str, Rate], limit: str, peers: dict[str, float]) -> Row:
    return Row(f"batch {batch}: {name}", rates[name], peers, rates[f"products alone, {limit}"].median)


def _sgd(module: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)


if __name__ == "__main__":
    typer.run(main)
