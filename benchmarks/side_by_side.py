"""What the benchmarks share: contenders timed in turn, the machine and what it can do at most, photos, a table, JSON.

A contender is a `Work`. All are run in one process, A B C A B C …, so that what slows the machine for a while slows them
all. Float32 is full float32 for all of them, on a GPU too, or their results could not be compared.
"""

import copy
import gc
import importlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from PIL import ExifTags, Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from deconvnet.data import ImageSet, PackedImageSet, find_images
from deconvnet.demo_images import write_views
from deconvnet.local_response_norm import LocalResponseNorm
from deconvnet.tracing import exact_float32

RESULTS = Path(__file__).parent / "results"

# Options that all of them have.
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Repeats = Annotated[int, typer.Option(min=1, help="Rounds in which each contender has its turn.")]
Images = Annotated[Path | None, typer.Option(help="A folder of JPEGs.  [default: scikit-image's views]")]
Out = Annotated[Path | None, typer.Option(help="Where the results go, as JSON.  [default: benchmarks/results/NAME.json]")]


@dataclass(frozen=True)
class Work:
    """One contender."""

    name: str
    run: Callable[[], Any]
    amount: float
    """Photos, activations, positions … of one run."""
    before: Callable[[], Any] = lambda: None
    """Called before each run, by nobody's clock."""


@dataclass(frozen=True)
class Rate:
    """How fast something went, each time."""

    amount: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Per second, as are the others."""
        return self.amount / statistics.median(self.seconds)

    @property
    def lowest(self) -> float:
        return self.amount / max(self.seconds)

    @property
    def highest(self) -> float:
        return self.amount / min(self.seconds)

    def entries(self) -> dict[str, float]:
        """Plain values, for JSON."""
        values = {"median": self.median, "lowest": self.lowest, "highest": self.highest}
        return {**values, "n": len(self.seconds), "amount": self.amount}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    rate: Rate
    peers: Mapping[str, float] = field(default_factory=dict)
    """Per second, by name, of what this one is compared with."""
    limit: float | None = None
    """Per second."""


@dataclass(frozen=True)
class Goal:
    """What was aimed at."""

    what: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)


def timed(
    works: Sequence[Work], repeats: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Rate]:
    """Run all of them in turn, `repeats` times; what makes a first call slow is left to the caller."""
    seconds: dict[str, list[float]] = {work.name: [] for work in works}
    gc.collect()  # what others have left, or it would be done in somebody's time
    with exact_float32():
        for _ in range(repeats):
            for work in works:
                work.before()
                synchronise(device)
                start = clock()
                work.run()
                synchronise(device)
                seconds[work.name].append(clock() - start)
    return {work.name: Rate(work.amount, tuple(seconds[work.name])) for work in works}


def quickest(candidates: Sequence[int], run: Callable[[int], Any], device: torch.device) -> int:
    """The one of a peer's batch sizes with which it is done first. The first is run once more, as first calls are slow."""
    if len(candidates) == 1:
        return candidates[0]
    run(candidates[0])
    works = [Work(str(size), lambda size=size: run(size), 1) for size in candidates]  # type: ignore[misc]
    rates = timed(works, 1, device)
    return max(candidates, key=lambda size: rates[str(size)].median)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load_peer(module: str) -> Any:
    """A module of this folder with somebody else's way; None, which is printed, if a package that it needs is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        Console().print(f"{module} is left out: {error.name} is not installed.")
        return None


def numbers(text: str) -> list[int]:
    """An option such as 32,64."""
    return [int(part) for part in text.split(",")]


# What the machine is, and what it can do at most.


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware, versions and threads."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "torchvision", "captum", "pillow")},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 0) -> float:
    """Multiply-adds per second: the most of a matrix product and of a convolution, which is faster on some processors.

    The product is of two matrices of `size`; by default large enough that a GPU takes milliseconds for it.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    maps, side = size // 8, 28
    x = torch.randn(32, maps, side, side, device=device).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(maps, maps, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    works = [
        Work("product", lambda: torch.mm(a, b), size**3),
        Work("convolution", lambda: F.conv2d(x, w, padding=1), 32 * side**2 * maps**2 * 9),
    ]
    with torch.inference_mode():
        timed(works, 1, device)
        return max(rate.highest for rate in timed(works, 3, device).values())


class _FarEnough(Exception):
    pass


class UpTo(nn.Module):
    """A module's forward pass as far as its ReLU number `last`."""

    def __init__(self, module: nn.Module, last: int) -> None:
        super().__init__()
        self.module, self.last, self.passed = copy.deepcopy(module), last, 0
        for part in self.module.modules():
            if isinstance(part, nn.ReLU):
                part.register_forward_hook(self._count)

    def _count(self, part: nn.Module, inputs: Any, output: Tensor) -> None:
        self.passed += 1
        if self.passed > self.last:
            raise _FarEnough

    def forward(self, x: Tensor) -> None:
        self.passed = 0
        try:
            self.module(x)
        except _FarEnough:
            pass
        else:
            raise ValueError(f"The module has no nn.ReLU that is number {self.last}.")


def forward_passes(module: nn.Module, batch: Tensor, count: int, device: torch.device) -> list[Work]:
    """Forward passes and nothing else, `count` batches. On a GPU in both memory layouts; on a CPU in channels_last, all
    threads in each operation, and a batch on each core.
    """
    if device.type != "cpu":
        layouts = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
        return [_passes_on_gpu(name, module, batch, count, device, layout) for name, layout in layouts.items()]
    batch = batch.to(memory_format=torch.channels_last)
    module = copy.deepcopy(module).eval().to(memory_format=torch.channels_last)
    weights = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    threads = torch.get_num_threads()
    modules = [copy.deepcopy(module, dict(weights)) for _ in range(threads)]  # around the same weights
    count = -(-count // threads) * threads

    def run(module: nn.Module, times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                module(batch)

    def parallel_map() -> None:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(run, module, count // threads) for module in modules]:
                done.result()
        torch.set_num_threads(threads)

    run(modules[0], 1)
    works = [Work("forward passes, all threads in each operation", lambda: run(modules[0], count), len(batch) * count)]
    if threads > 1:
        works.append(Work("forward passes, a batch on each core", parallel_map, len(batch) * count))
    return works


def _passes_on_gpu(
    name: str, module: nn.Module, batch: Tensor, count: int, device: torch.device, layout: torch.memory_format
) -> Work:
    inputs, copied = batch.to(device, memory_format=layout), copy.deepcopy(module).eval().to(device, memory_format=layout)

    def run(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                copied(inputs)

    run(1)
    return Work(f"forward passes, {name}", lambda: run(count), len(batch) * count)


def as_written(module: nn.Module) -> nn.Module:
    """A copy of a module as anybody would have written it: its contrast normalisation is torch's."""
    module = copy.deepcopy(module).eval().requires_grad_(False)
    for part in list(module.modules()):
        for name, inner in part.named_children():
            if isinstance(inner, LocalResponseNorm):
                c = inner.constants
                setattr(part, name, nn.LocalResponseNorm(c.n, c.alpha, c.beta, c.k))
    return module


# Photos.


@contextmanager
def jpeg_folder(images: Path | None, count: int | None = None) -> Iterator[Path]:
    """A folder with class folders of `count` JPEGs (default: all): links to those of `images`, evenly spread over it.

    Photos that torchvision's `ImageFolder` reads in another way than we do, turned ones and CMYK, are left out. If `count`
    is more than there are, photos come several times.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if images is None:
            images = Path(temporary) / "views"
            write_views(images)
        found = find_images(images)
        if isinstance(found, PackedImageSet):
            raise typer.BadParameter(f"{images.name} is a packed set: pass a folder of JPEGs.")
        _link(found, count, Path(temporary) / "photos")
        yield Path(temporary) / "photos"


def _link(photos: ImageSet, count: int | None, folder: Path) -> None:
    good = [index for index in range(len(photos)) if _read_alike(photos.file(index))]
    if not good:
        raise typer.BadParameter("There is no JPEG among the photos.")
    count = count or len(good)
    chosen = [good[number * len(good) // count] for number in range(count)] if count <= len(good) else good
    for number in range(count):
        index, again = chosen[number % len(chosen)], number // len(chosen)
        file = photos.file(index)
        label = folder / (photos.labels[index] or "photos")
        label.mkdir(parents=True, exist_ok=True)
        (label / (f"{file.stem}~{again}{file.suffix}" if again else file.name)).symlink_to(file.resolve())


def _read_alike(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            return upright and image.format == "JPEG" and image.mode in ("RGB", "L")
    except OSError:
        return False


# Results.


def report(
    name: str,
    title: str,
    arguments: Mapping[str, Any],
    rows: Sequence[Row],
    goals: Sequence[Goal],
    found: Mapping[str, Any],
    device: torch.device,
    out: Path | None,
) -> None:
    """Print the table, and write it with all else as JSON; `found` is what is not a rate, such as how equal results are."""
    table = Table("what", "per second", "times the peer", "of the limit", title=title)
    for row in rows:
        rate, limit = row.rate, "" if row.limit is None else f"{row.rate.median / row.limit:.1%}"
        peers = ", ".join(f"{rate.median / peer:.2f} × {name}" for name, peer in row.peers.items())
        table.add_row(row.what, f"{_short(rate.median)} ({_short(rate.lowest)}–{_short(rate.highest)})", peers, limit)
    console = Console()
    console.print(table)
    for goal in goals:
        wanted = f"at least {goal.least:g}" if goal.least is not None else f"at most {goal.most:g}"
        console.print(f"{goal.what}: {goal.found:.3g}, {wanted} wanted: {'met' if goal.met else 'not met'}")
    console.print_json(data=dict(found))

    result = {
        "benchmark": name,
        "arguments": {key: value.name if isinstance(value, Path) else value for key, value in arguments.items()},
        "rows": [
            {
                "what": row.what,
                "per_second": row.rate.entries(),
                "times_peer": {name: row.rate.median / peer for name, peer in row.peers.items()},
                "share_of_limit": None if row.limit is None else row.rate.median / row.limit,
            }
            for row in rows
        ],
        "goals": [
            {"what": goal.what, "found": goal.found, "least": goal.least, "most": goal.most, "met": goal.met}
            for goal in goals
        ],
        "found": dict(found),
        "machine": machine(device),
    }
    out = out or RESULTS / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
