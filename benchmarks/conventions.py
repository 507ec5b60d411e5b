"""How much the conventions of the backward pass matter: the same activations projected by other rules.

    python benchmarks/conventions.py alexnet2012:bvlc_alexnet_trunk.safetensors imagenette/val [--activations 200]

For each convolutional layer, the strongest activation of any unit in randomly drawn photos is projected by the paper's rules
and by every other convention. Written to benchmarks/results: the relative error and the cosine of the projections, and the
mean difference in grey levels of the two pictures as an atlas would draw them, each cropped to its receptive field and on
its own grey scale. Two mistakes of published code are measured too; they are implemented here and nowhere else.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from deconvnet.data import find_images, read_image
from deconvnet.models import Network, load
from deconvnet.projection import RULES, display_scale, project_batch, to_pixels
from deconvnet.tracing import Rules

RESULTS = Path(__file__).parent / "results"
_BATCH_SIZE = 20


class _ReLUWithoutBackwardRectification(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return signal


#: Compared with the paper's rules. "pixels rectified" is not among them: it is the paper's projection, clamped at 0.
CONVENTIONS = {name: rules for name, rules in RULES.items() if name != "deconvnet"}
CONVENTIONS["signal never rectified"] = replace(
    RULES["deconvnet"], rectify=lambda x, ceiling, inplace: _ReLUWithoutBackwardRectification.apply(x)
)


def compare(network: Network, layer: str, x: Tensor) -> Iterator[tuple[int, float, dict[str, tuple[float, float, float]]]]:
    """For each of x (N, 3, H, W): the unit, the contrast of the paper's picture (mean distance from mid-grey), and by
    convention the relative error, the cosine and the mean difference in grey levels.
    """
    with torch.no_grad():
        units = network.activations(x, layer).flatten(2).amax(dim=2).argmax(dim=1)
    paper = project_batch(network, x, layer, units)
    positions = torch.stack([paper.rows, paper.columns], dim=1)
    batches = {name: project_batch(network, x, layer, units, positions, rules=rules) for name, rules in CONVENTIONS.items()}
    batches["pixels rectified"] = replace(paper, crops=paper.crops.clamp(min=0))
    pixels = {name: batch.pixels for name, batch in batches.items()}
    crops = {name: batch.crop(network.layer(layer)) for name, batch in batches.items()}
    for n, (paper_pixels, paper_crop) in enumerate(zip(paper.pixels, paper.crop(network.layer(layer)), strict=True)):
        paper_levels = grey_levels(paper_crop)
        differences = {}
        for name in batches:
            error = (pixels[name][n] - paper_pixels).norm() / paper_pixels.norm()
            cosine = torch.nn.functional.cosine_similarity(pixels[name][n].flatten(), paper_pixels.flatten(), dim=0)
            levels = np.abs(grey_levels(crops[name][n]) - paper_levels).mean()
            differences[name] = (float(error), float(cosine), float(levels))
        yield int(units[n]), float(np.abs(paper_levels - 128).mean()), differences


def grey_levels(projection: Tensor) -> np.ndarray:
    """(h, w, 3) a projection (3, h, w) as an atlas draws it, 0 to 255."""
    return to_pixels(projection, display_scale(projection)).astype(float)


def shared_switches(network: Network, x: Tensor) -> list[tuple[int, int, int]]:
    """For each pooling below the last convolutional layer: the number of outputs, of those that share their switch with
    another window, and of those that an overwriting unpooling loses.
    """
    counts = []

    def pool(pooling: Callable[..., tuple[Tensor, Tensor]], *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        output, switches = pooling(*args, **kwargs)
        flat = switches.flatten(-2).flatten(0, 1)
        windows = torch.zeros(len(flat), int(flat.max()) + 1, dtype=torch.int64)
        windows.scatter_add_(1, flat, torch.ones_like(flat))
        shared, distinct = (windows.gather(1, flat) > 1).sum(), (windows > 0).sum()
        counts.append((flat.numel(), int(shared), flat.numel() - int(distinct)))
        return output, switches

    with torch.no_grad():
        network.capture(x, [convolutional(network)[-1]], lambda *_: None, Rules(pool=pool))
    return counts


def convolutional(network: Network) -> list[str]:
    """The names of the layers that are compared."""
    return [name for name, layer in network.layers.items() if layer.convolutional]


def spread(values: list[float]) -> dict[str, float]:
    """Median and range, to four digits."""
    return {
        key: float(f"{float(value):.4g}")
        for key, value in (("median", np.median(values)), ("min", min(values)), ("max", max(values)))
    }


def main(
    network: Annotated[str, typer.Argument(help="NAME:WEIGHTS")],
    images: Annotated[Path, typer.Argument(help="A folder of photos.")],
    activations: Annotated[int, typer.Option(help="Photos drawn, and activations projected of each layer.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Measure, print a table, and write the numbers to benchmarks/results."""
    net, image_set = load(network), find_images(images)
    indices = np.random.default_rng(seed).choice(len(image_set), size=min(activations, len(image_set)), replace=False)
    inputs = torch.stack([net.preprocess(read_image(image_set.file(int(index)))) for index in indices])
    batches = [inputs[first : first + _BATCH_SIZE] for first in range(0, len(inputs), _BATCH_SIZE)]

    result: dict[str, Any] = {"network": net.full_name, "images": images.name, "activations": len(indices), "seed": seed}
    pools = np.sum([shared_switches(net, x) for x in track(batches, "switches")], axis=0)
    result["switches"] = [
        {"outputs": int(n), "sharing": float(f"{shared / n:.4g}"), "lost": float(f"{lost / n:.4g}")}
        for n, shared, lost in pools
    ]
    result["layers"] = {}
    table = Table(
        "layer", "convention", "relative error", "cosine", "grey levels", title=f"{net.full_name}, {len(indices)} each"
    )
    for layer in convolutional(net):
        rows = [row for x in track(batches, layer) for row in compare(net, layer, x)]
        units, contrasts, differences = zip(*rows, strict=True)
        entry: dict[str, Any] = {"units": len(set(units)), "contrast": spread(list(contrasts))}
        for name in differences[0]:
            measures = zip(*(by_convention[name] for by_convention in differences), strict=True)
            entry[name] = dict(zip(("error", "cosine", "grey_levels"), map(spread, map(list, measures)), strict=True))
            cells = (f"{value['median']:.3g} ({value['min']:.3g}–{value['max']:.3g})" for value in entry[name].values())
            table.add_row(layer, name, *cells)
        result["layers"][layer] = entry
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "conventions.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
