"""How much the rules of the way down matter: what other conventions make of the same activations.

    python benchmarks/conventions.py alexnet2012:bvlc_alexnet_trunk.safetensors imagenette/val [--activations 200]

For each convolutional layer, the strongest activation of the most driven unit in randomly drawn photos is projected by the
paper's rules and by every other convention. Written to benchmarks/results: relative error and cosine of the projections, and
how many grey levels apart the two pictures are as an atlas would draw them, each cropped to its receptive field and on its
own grey scale. Two mistakes that published code makes are measured as well; they are made here and nowhere else.
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
from deconvnet.projection import (
    RULES,
    ProjectionBatch,
    display_scale,
    project_batch,
    to_pixels,
)
from deconvnet.tracing import Rules

RESULTS = Path(__file__).parent / "results"
_AT_ONCE = 20


class _RectifyOnlyUpward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return signal


#: Projected beside the paper's. "pixels rectified" is not among them: it is the paper's, its negative pixels cut off.
CONVENTIONS = {name: rules for name, rules in RULES.items() if name != "deconvnet"}
CONVENTIONS["signal never rectified"] = replace(
    RULES["deconvnet"], rectify=lambda x, ceiling, inplace: _RectifyOnlyUpward.apply(x)
)


def compare(network: Network, layer: str, x: Tensor) -> Iterator[tuple[int, float, dict[str, tuple[float, float, float]]]]:
    """For each of x (N, 3, H, W): the unit projected, the paper's picture's contrast (mean distance from mid-grey), and per
    convention the relative error, the cosine and the mean difference in grey levels.
    """
    with torch.no_grad():
        units = network.activations(x, layer).flatten(2).amax(dim=2).argmax(dim=1)
    paper = project_batch(network, x, layer, units)
    positions = torch.stack([paper.rows, paper.columns], dim=1)
    others = {
        name: project_batch(network, x, layer, units, positions, rules=rules).pixels for name, rules in CONVENTIONS.items()
    }
    others["pixels rectified"] = paper.pixels.clamp(min=0)
    for n, mine in enumerate(paper.pixels):
        shown = drawn(network, layer, paper, mine, n)
        apart = {}
        for name, pixels in others.items():
            error = (pixels[n] - mine).norm() / mine.norm()
            cosine = torch.nn.functional.cosine_similarity(pixels[n].flatten(), mine.flatten(), dim=0)
            levels = np.abs(drawn(network, layer, paper, pixels[n], n) - shown).mean()
            apart[name] = (float(error), float(cosine), float(levels))
        yield int(units[n]), float(np.abs(shown - 128).mean()), apart


def drawn(network: Network, layer: str, found: ProjectionBatch, pixels: Tensor, n: int) -> np.ndarray:
    """A projection's receptive field as an atlas draws it, (h, w, 3), in grey levels."""
    left, top, right, bottom = network.layer(layer).field.patch_box(int(found.rows[n]), int(found.columns[n]))
    crop = pixels[:, top:bottom, left:right]
    return to_pixels(crop, display_scale(crop)).astype(float)


def shared_switches(network: Network, x: Tensor) -> list[tuple[int, int, int]]:
    """For each pooling below the last convolutional layer: outputs, those whose switch another window has too, and those
    that an overwriting unpooling loses.
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
    """The layers that are compared."""
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
    net, photos = load(network), find_images(images)
    which = np.random.default_rng(seed).choice(len(photos), size=min(activations, len(photos)), replace=False)
    inputs = torch.stack([net.preprocess(read_image(photos.file(int(n)))) for n in which])
    batches = [inputs[first : first + _AT_ONCE] for first in range(0, len(inputs), _AT_ONCE)]

    result: dict[str, Any] = {"network": net.full_name, "images": images.name, "activations": len(which), "seed": seed}
    pools = np.sum([shared_switches(net, x) for x in track(batches, "switches")], axis=0)
    result["switches"] = [
        {"outputs": int(n), "sharing": float(f"{shared / n:.4g}"), "lost": float(f"{lost / n:.4g}")}
        for n, shared, lost in pools
    ]
    result["layers"] = {}
    table = Table(
        "layer", "convention", "relative error", "cosine", "grey levels", title=f"{net.full_name}, {len(which)} each"
    )
    for layer in convolutional(net):
        found = [one for x in track(batches, layer) for one in compare(net, layer, x)]
        entry: dict[str, Any] = {"units": len({unit for unit, *_ in found}), "contrast": spread([c for _, c, _ in found])}
        for name in found[0][2]:
            measures = zip(*(apart[name] for *_, apart in found), strict=True)
            entry[name] = dict(zip(("error", "cosine", "grey_levels"), map(spread, map(list, measures)), strict=True))
            cells = (f"{value['median']:.3g} ({value['min']:.3g}–{value['max']:.3g})" for value in entry[name].values())
            table.add_row(layer, name, *cells)
        result["layers"][layer] = entry
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "conventions.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
