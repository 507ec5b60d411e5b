"""Projection: the nine hits of units of the convolutional layers, from inputs in memory.

    python benchmarks/projection.py [--network alexnet:random] [--images FOLDER] [--units 0] [--device cuda]

Against captum's `NeuronDeconvolution`, a unit's nine hits in a batch, and for networks such as `alexnet` against a deconvnet
written out with `MaxUnpool2d`, as most are (`projection_peer.py`). Ours are projected as an atlas projects them, those of 32
units together in batches that share work. The limit is the multiply-adds that each activation depends on, forward and back,
at the rate that was measured for matrix products and convolutions; with work shared among hits more is possible. The rate of
all layers weighs each by all its hits.

Captum's pictures are ours. `MaxUnpool2d` writes each value to its switch, where overlapping windows share one over what
another has written, so its pictures are others. Compared are those of some units, before anything is timed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from projection_peer import NeuronDeconvolution, by_captum, by_unpooling
from side_by_side import (
    Device,
    Goal,
    Images,
    Out,
    Rate,
    Repeats,
    Row,
    Work,
    as_written,
    jpeg_folder,
    matrix_rate,
    report,
    timed,
)
from torch import Tensor, nn
from torchvision.models import ResNet

from deconvnet.mining import LayerHits, mine
from deconvnet.models import Network, load, parallel_map
from deconvnet.projection import ProjectionBatch, plan_batches, project_batch

#: What is measured by default, and the least times captum's rate that was aimed at.
NETWORKS = ["alexnet:random", "torchvision:resnet50:random"]
GOALS = {"conv5": 8.0, "layer3.5.relu#3": 2.4, "layer4.2.relu#3": 2.4}

#: Hits in each of our batches; the peers' batches hold the hits of one unit.
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Hits:
    """Activations of one layer, unit by unit."""

    layer: str
    images: Tensor
    """(n,) indices of the inputs that they are in; all tensors are (n,)."""
    units: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor
    total: int
    """Number of hits of all units of the layer."""

    @classmethod
    def from_layer(cls, hits: LayerHits, units: int) -> "Hits":
        """Those of the first `units` units; of all, if that is 0."""
        images = hits.topk.images[: units or None]
        entries = (images >= 0).nonzero().unbind(dim=1)
        rows, columns = hits.positions[entries].unbind(dim=1)
        total = int((hits.topk.images >= 0).sum())
        return cls(hits.layer.name, images[entries], entries[0], rows, columns, hits.topk.values[entries], total)

    def select(self, index: Any) -> "Hits":
        return self._map(lambda tensor: tensor[index])

    def split(self, size: int) -> list["Hits"]:
        return [self.select(slice(first, first + size)) for first in range(0, len(self.images), size)]

    def by_unit(self) -> list["Hits"]:
        return [self.select(self.units == unit) for unit in sorted(set(self.units.tolist()))]

    def to(self, device: torch.device) -> "Hits":
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Hits":
        images, units, rows, columns, values = map(function, (self.images, self.units, self.rows, self.columns, self.values))
        return Hits(self.layer, images, units, rows, columns, values, self.total)


def project_ours(network: Network, inputs: Tensor, hits: Hits) -> Iterator[ProjectionBatch]:
    """Project the hits with this package, batch by batch, those in one image together, which then share a forward pass."""

    def read(batch: Hits) -> Hits:
        return batch

    def compute(replica: Network, batch: Hits) -> ProjectionBatch:
        images, photos = batch.images.unique(return_inverse=True)
        positions = torch.stack([batch.rows, batch.columns], dim=1)
        return project_batch(
            *(replica, inputs[images], batch.layer, batch.units, positions), photos=photos, values=batch.values
        )

    batches = [hits.select(indices) for indices in planned(network, hits) if len(indices)]
    yield from parallel_map(network, read, compute, batches)


def planned(network: Network, hits: Hits) -> tuple[Tensor, ...]:
    """The hits' indices in batches, as an atlas has them."""
    positions = torch.stack([hits.rows, hits.columns], dim=1).cpu()
    return plan_batches(network, hits.layer, hits.units.cpu(), positions, hits.images.cpu(), _BATCH_SIZE)


def project_peer(
    project: Callable[..., Tensor], module: nn.Module, end: str, inputs: Tensor, hits: Hits
) -> Iterator[Tensor]:
    """Project the hits with a peer, unit by unit; `end` is the path of the submodule whose output the layer is."""
    for unit_hits in hits.by_unit():
        yield project(module, end, inputs[unit_hits.images], unit_hits.units, unit_hits.rows, unit_hits.columns)


def exhaust(pictures: Iterator[Any]) -> None:
    """Compute them all and keep none."""
    for _ in pictures:
        pass


def largest_difference(projections: Tensor, expected: Tensor) -> float:
    """The largest relative difference ‖projection − expected‖ / ‖expected‖."""
    size = expected.flatten(1).norm(dim=1).clamp(min=torch.finfo(expected.dtype).tiny)  # a projection may be zero
    return float(((projections - expected).flatten(1).norm(dim=1) / size).max())


def multiply_adds(network: Network, layer: str) -> float:
    """Floating-point operations that one activation of a layer needs, forward and back."""
    plan = network.crop_plan(layer)
    if plan is None:
        raise typer.BadParameter(f"It is not known what an activation of {layer} depends on.")
    return 2.0 * sum(
        step.multiplications_per_position * prod(plan.regions[step.outputs[0]].size)
        for step in plan.trace.steps
        if step.multiplications_per_position and step.outputs[0] in plan.regions
    )


def layers_of(network: Network) -> dict[str, str]:
    """The layers that are measured, each with the path of the submodule whose output it is: all convolutional ones of
    networks such as `alexnet`, the ends of the stages of a ResNet.
    """
    if isinstance(network.module, ResNet):
        last = {name.split(".")[0]: name for name in network.layers if name.startswith(("layer2", "layer3", "layer4"))}
        return {name: stage for stage, name in last.items()}
    features = getattr(network.module, "features", None)
    supported = (nn.Conv2d, nn.ReLU, nn.MaxPool2d)
    if not isinstance(features, nn.Sequential) or not all(isinstance(child, supported) for child in features):
        raise typer.BadParameter("The peers take a ResNet, or a network like torchvision's alexnet or vgg11.")
    relus = [f"features.{index}" for index, child in enumerate(features) if isinstance(child, nn.ReLU)]
    return dict(zip(network.convolutional_layers, relus, strict=True))


def for_peers(network: Network) -> nn.Module:
    """The network's module for the peers."""
    module = as_written(network.module)
    for child in module.modules():
        if isinstance(child, nn.ReLU):
            child.inplace = False  # or captum's hooks fail
    return module


def main(
    networks: Annotated[list[str], typer.Option("--network", help="NAME:WEIGHTS; may be given several times.")] = NETWORKS,
    images: Images = None,
    photos: Annotated[int, typer.Option(min=1, help="How many to mine first; all inputs stay in memory.")] = 500,
    units: Annotated[int, typer.Option(min=0, help="Units of each layer, the first; 0: all.")] = 32,
    top: Annotated[int, typer.Option(min=1, help="Hits of each unit.")] = 9,
    checked: Annotated[int, typer.Option(min=1, help="Units of each layer whose pictures are compared.")] = 4,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on = torch.device(device)
    rate = matrix_rate(on)
    rows: list[Row] = []
    goals: list[Goal] = []
    details: dict[str, Any] = {"multiply_adds_per_second": rate}
    for name in networks:
        with jpeg_folder(images, photos) as folder:
            measured = measure(load(name).to(on), folder, rate, units, top, checked, repeats, on)
        rows += measured.rows
        goals += measured.goals
        details[name] = measured.details
    report("projection", "activations projected", arguments, rows, goals, details, on, out)


@dataclass(frozen=True)
class Measured:
    """What was found of one network."""

    rows: list[Row]
    goals: list[Goal]
    details: dict[str, Any]


def measure(
    network: Network, folder: Path, rate: float, units: int, top: int, checked: int, repeats: int, on: torch.device
) -> Measured:
    """Mine the photos in `folder`, compare pictures of the hits of `checked` units, and time those of `units` units."""
    layers, module = layers_of(network), for_peers(network)
    result = mine(network, folder, list(layers), top=top)
    image_set = result.image_set
    inputs = torch.stack([network.preprocess(image_set.read(index)) for index in range(len(image_set))]).to(on)
    our_inputs = inputs.contiguous(memory_format=torch.channels_last)  # as mining has them
    peers: dict[str, Callable[..., Tensor]] = {}
    if NeuronDeconvolution is not None:
        peers["captum"] = by_captum
    if not isinstance(module, ResNet):
        peers["MaxUnpool2d"] = by_unpooling

    rows: list[Row] = []
    goals: list[Goal] = []
    seconds: dict[str, list[float]] = {name: [0.0] * repeats for name in ("deconvnet", *peers)}
    total_hits, least_seconds = 0, 0.0
    differences: dict[str, dict[str, float]] = {name: {} for name in peers}
    for layer, end in layers.items():
        hits = Hits.from_layer(result[layer], units).to(on)
        compared = hits.select(hits.units < checked)
        compared = compared.select(torch.cat(planned(network, compared)))
        ours = torch.cat([batch.pixels for batch in project_ours(network, our_inputs, compared)])
        for name, project in peers.items():
            each = [compared.select([index]) for index in range(len(compared.images))]
            projections = torch.cat([next(project_peer(project, module, end, inputs, hit)) for hit in each])
            if name == "captum":  # the others start from the activation itself
                projections = projections * compared.values[:, None, None, None]
            differences[name][layer] = largest_difference(projections, ours)

        count, limit = len(hits.units), rate / multiply_adds(network, layer)
        runs: dict[str, Callable[[], Iterator[Any]]] = {"deconvnet": partial(project_ours, network, our_inputs, hits)}
        runs |= {name: partial(project_peer, project, module, end, inputs, hits) for name, project in peers.items()}
        rates = timed([Work(name, lambda run=run: exhaust(run()), count) for name, run in runs.items()], repeats, on)  # type: ignore[misc]
        label = f"{network.name} {layer}"
        rows += [_row(f"{label}, {name}", rates, name, limit, tuple(peers)) for name in runs]
        if "captum" in peers and layer in GOALS:
            goals.append(Goal(f"times captum, {label}", rates["deconvnet"].median / rates["captum"].median, GOALS[layer]))
        total_hits, least_seconds = total_hits + hits.total, least_seconds + hits.total / limit
        for name, run_rate in rates.items():  # as long as all hits of the layer would take
            seconds[name] = [sum(pair) for pair in zip(seconds[name], _scaled(run_rate, hits.total / count), strict=True)]

    total = {name: Rate(total_hits, tuple(times)) for name, times in seconds.items()}
    rows += [
        _row(f"{network.name} all these, {name}", total, name, total_hits / least_seconds, tuple(peers)) for name in total
    ]
    if "captum" in peers:
        apart = max(differences["captum"].values())
        goals.append(Goal(f"largest relative difference of captum's pictures, {network.name}", apart, most=1e-5))
    details = {
        "hits_of_all_units": total_hits,
        "photos": len(inputs),
        "largest_relative_difference_of_pictures": differences,
    }
    return Measured(rows, goals, details)


def _row(label: str, rates: dict[str, Rate], name: str, limit: float, peers: tuple[str, ...]) -> Row:
    return Row(label, rates[name], {peer: rates[peer].median for peer in peers if peer != name}, limit)


def _scaled(rate: Rate, factor: float) -> list[float]:
    return [seconds * factor for seconds in rate.seconds]


if __name__ == "__main__":
    typer.run(main)
