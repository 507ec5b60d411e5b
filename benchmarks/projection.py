"""Projection: the nine hits of every unit of the convolutional layers, from inputs in memory.

    python benchmarks/projection.py [--network alexnet:random] [--images FOLDER] [--units 0] [--device cuda]

Against captum's `NeuronDeconvolution`, a unit's nine hits in a batch, and against a deconvnet written out with
`MaxUnpool2d`, as most are (`projection_peer.py`). The limit is the
multiply-adds that an activation depends on, forward and back, at the rate that was measured for matrix products and
convolutions. By default the first 64 units of each layer are taken; the rate of all layers weighs each by all its hits.

Captum's pictures are ours. `MaxUnpool2d` writes each value to its switch, where overlapping windows share one over what
another has written, so its pictures are others. Compared are those of some units, before anything is timed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Annotated, Any

import torch
import typer
from projection_peer import by_captum, by_unpooling
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

from deconvnet.mining import LayerHits, mine
from deconvnet.models import Network, load, parallel_map
from deconvnet.projection import ProjectionBatch, project_batch

#: Hits in each of our batches; in those of the others are the hits of one unit.
_AT_ONCE = 32


@dataclass(frozen=True)
class Hits:
    """Activations of one layer, unit by unit."""

    layer: str
    photos: Tensor
    """(n,) which of the inputs each is in, as are the others."""
    units: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor
    every: int
    """How many there are of all units together."""

    @classmethod
    def of(cls, hits: LayerHits, units: int) -> "Hits":
        """Those of the first `units` units; of all, if that is 0."""
        images = hits.strongest.images[: units or None]
        which = (images >= 0).nonzero().unbind(dim=1)
        rows, columns = hits.positions[which].unbind(dim=1)
        every = int((hits.strongest.images >= 0).sum())
        return cls(hits.layer.name, images[which], which[0], rows, columns, hits.strongest.values[which], every)

    def part(self, chosen: Any) -> "Hits":
        return self._each(lambda tensor: tensor[chosen])

    def split(self, size: int) -> list["Hits"]:
        return [self.part(slice(first, first + size)) for first in range(0, len(self.image_set), size)]

    def by_unit(self) -> list["Hits"]:
        return [self.part(self.units == unit) for unit in sorted(set(self.units.tolist()))]

    def to(self, device: torch.device) -> "Hits":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Hits":
        photos, units, rows, columns, values = map(
            change, (self.image_set, self.units, self.rows, self.columns, self.values)
        )
        return Hits(self.layer, photos, units, rows, columns, values, self.every)


def ours(network: Network, inputs: Tensor, hits: Hits) -> Iterator[ProjectionBatch]:
    """Of a batch of hits after the other."""

    def read(batch: Hits) -> Hits:
        return batch

    def compute(own: Network, batch: Hits) -> ProjectionBatch:
        positions = torch.stack([batch.rows, batch.columns], dim=1)
        return project_batch(own, inputs[batch.image_set], batch.layer, batch.units, positions)

    yield from parallel_map(network, read, compute, hits.split(_AT_ONCE))


def others(project: Callable[..., Tensor], module: nn.Module, end: int, inputs: Tensor, hits: Hits) -> Iterator[Tensor]:
    """The same by a peer, a unit after the other."""
    for unit in hits.by_unit():
        yield project(module, end, inputs[unit.image_set], unit.units, unit.rows, unit.columns)


def exhaust(pictures: Iterator[Any]) -> None:
    """Make them all and keep none."""
    for _ in pictures:
        pass


def largest_difference(found: Tensor, wanted: Tensor) -> float:
    """The largest of the pictures' relative differences ‖found − wanted‖ / ‖wanted‖."""
    size = wanted.flatten(1).norm(dim=1).clamp(min=torch.finfo(wanted.dtype).tiny)  # a picture may be empty
    return float(((found - wanted).flatten(1).norm(dim=1) / size).max())


def multiply_adds(network: Network, layer: str) -> float:
    """What one activation of a layer takes, forward and back."""
    cone = network.cone(layer)
    if cone is None:
        raise typer.BadParameter(f"It is not known what an activation of {layer} depends on.")
    reaches = cone.reaches
    steps = [step for step in cone.trace.steps if step.work and step.outputs[0] in reaches]
    return 2.0 * sum(step.work * prod(reaches[step.outputs[0]].size) for step in steps)


def for_peers(network: Network) -> tuple[nn.Module, dict[str, int]]:
    """What the peers take: a module, and by layer the number of its ReLU in the module's `features`."""
    module = as_written(network.module)
    features = getattr(module, "features", None)
    known = (nn.Conv2d, nn.ReLU, nn.MaxPool2d)
    if not isinstance(features, nn.Sequential) or not all(isinstance(part, known) for part in features):
        raise typer.BadParameter("The peers take a network like torchvision's alexnet or vgg11.")
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # or captum's hooks fail
    ends = [number for number, part in enumerate(features) if isinstance(part, nn.ReLU)]
    return module, dict(zip(network.convolutional_layers, ends, strict=True))


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS")] = "alexnet:random",
    images: Images = None,
    photos: Annotated[int, typer.Option(min=1, help="How many to mine first; all inputs stay in memory.")] = 500,
    units: Annotated[int, typer.Option(min=0, help="Units of each layer, the first; 0: all.")] = 64,
    top: Annotated[int, typer.Option(min=1, help="Hits of each unit.")] = 9,
    checked: Annotated[int, typer.Option(min=1, help="Units of each layer whose pictures are compared.")] = 4,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, net = torch.device(device), load(network).to(device)
    module, ends = for_peers(net)
    with jpeg_folder(images, photos) as folder:
        mined = mine(net, folder, top=top)
        inputs = torch.stack([net.preprocess(mined.image_set.read(index)) for index in range(len(mined.image_set))]).to(on)
    own_inputs = inputs.contiguous(memory_format=torch.channels_last)  # as mining has them
    peers: dict[str, tuple[Callable[..., Tensor], Any]] = {
        "captum": (by_captum, module),
        "MaxUnpool2d": (by_unpooling, module.get_submodule("features")),
    }
    rate = matrix_rate(on)

    rows: list[Row] = []
    seconds: dict[str, list[float]] = {name: [0.0] * repeats for name in ("deconvnet", *peers)}
    every, least = 0, 0.0
    apart: dict[str, dict[str, float]] = {name: {} for name in peers}
    for layer, end in ends.items():
        hits = Hits.of(mined[layer], units).to(on)
        some = hits.part(hits.units < checked)
        own = torch.cat([projected.pixels for projected in ours(net, own_inputs, some)])
        for name, (project, given) in peers.items():
            pictures = torch.cat(list(others(project, given, end, inputs, some)))
            if name == "captum":  # the others start from the activation itself
                pictures = pictures * some.values[:, None, None, None]
            apart[name][layer] = largest_difference(pictures, own)

        count, limit = len(hits.units), rate / multiply_adds(net, layer)
        runs: dict[str, Callable[[], Iterator[Any]]] = {"deconvnet": partial(ours, net, own_inputs, hits)}
        runs |= {name: partial(others, *peer, end, inputs, hits) for name, peer in peers.items()}
        rates = timed([Work(name, lambda run=run: exhaust(run()), count) for name, run in runs.items()], repeats, on)  # type: ignore[misc]
        rows += [_row(f"{layer}, {name}", rates, name, limit, tuple(peers)) for name in runs]
        every, least = every + hits.every, least + hits.every / limit
        for name, found in rates.items():  # as long as all hits of the layer would take
            seconds[name] = [sum(pair) for pair in zip(seconds[name], _scaled(found, hits.every / count), strict=True)]

    total = {name: Rate(every, tuple(times)) for name, times in seconds.items()}
    rows += [_row(f"all layers, {name}", total, name, every / least, tuple(peers)) for name in total]
    goals = [
        Goal("times captum, all layers", total["deconvnet"].median / total["captum"].median, least=10),
        Goal("largest relative difference of captum's pictures", max(apart["captum"].values()), most=1e-5),
    ]
    found_out = {
        "hits_of_all_units": every,
        "photos": len(inputs),
        "multiply_adds_per_second": rate,
        "largest_relative_difference_of_pictures": apart,
    }
    report("projection", f"activations projected, {net.full_name}", arguments, rows, goals, found_out, on, out)


def _row(what: str, rates: dict[str, Rate], name: str, limit: float, peers: tuple[str, ...]) -> Row:
    return Row(what, rates[name], {peer: rates[peer].median for peer in peers if peer != name}, limit)


def _scaled(rate: Rate, times: float) -> list[float]:
    return [seconds * times for seconds in rate.seconds]


if __name__ == "__main__":
    typer.run(main)
