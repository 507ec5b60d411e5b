"""Occlusion: a square of 50×50 pixels at 30×30 positions of one photo; the class's probability at each.

    python benchmarks/occlusion_speed.py [--network alexnet:random,zfnet:random] [--images FOLDER] [--device cuda]

Against captum's `Occlusion` (`occlusion_peer.py`) with its best of `--batches`, on the same weights in a module as anybody
would write it, with torch's contrast normalisation. The limit is as many whole forward passes and nothing else. We compute
only what the square can change, so we may be above it. The class is the one that the network sees in the photo, and the
probabilities that captum's forward passes gave are compared with ours.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from occlusion_peer import occlude
from side_by_side import (
    Device,
    Goal,
    Images,
    Out,
    Repeats,
    Row,
    Work,
    as_written,
    forward_passes,
    jpeg_folder,
    numbers,
    quickest,
    report,
    timed,
)
from torch import Tensor, nn

from deconvnet.data import find_images
from deconvnet.experiments.fig7_occlusion.compute import occluded_scores
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.models import Network, load

GOALS = {"alexnet": 2.5, "zfnet": 3.0}


def make_decided(network: Network, x: Tensor) -> float:
    """Multiply the scores of an untrained network so that they spread over classes: before, all are about as probable,
    whatever is covered, and probabilities would be equal if all else was wrong. Returns by how much.
    """
    last = [part for part in network.module.modules() if isinstance(part, nn.Linear)][-1]
    times = 2 / float(network.output(x[None]).std())
    with torch.no_grad():
        last.weight.mul_(times)
        if last.bias is not None:
            last.bias.mul_(times)
    return times


def measure(
    name: str, folder: Path, occluder: Occluder, batches: list[int], repeats: int, on: torch.device
) -> tuple[list[Row], list[Goal], dict[str, Any]]:
    """One network."""
    net = load(name).to(on)
    photos = find_images(folder)
    x = net.preprocess(photos.read(0))
    times = make_decided(net, x) if name.endswith(":random") else 1.0
    target = int(net.probabilities(x[None]).argmax())
    crop, layer = net.preprocessing.crop, net.convolutional_layers[-1]
    if (crop - occluder.size) % occluder.stride:
        raise typer.BadParameter(f"Captum covers pixels beyond the last position that we take: choose a stride for {crop}.")
    corners = occluder.corners(crop)
    module = as_written(net.module).to(on)

    def probabilities(inputs: Tensor) -> Tensor:
        return module(inputs).softmax(dim=1)

    def ours(places: Tensor) -> Tensor:
        return occluded_scores(net, x, occluder, places, layer, 0)[1][:, target].exp()

    def captum(size: int, forward: Any = probabilities, stride: int = occluder.stride) -> Tensor:
        return occlude(forward, x[None].to(on), target, occluder.size, stride, size)

    seen: list[Tensor] = []

    def noting(inputs: Tensor) -> Tensor:
        found = probabilities(inputs)
        seen.append(found[:, target].double().cpu())
        return found

    captum(batches[0], noting)
    side = len(occluder.starts(crop))
    theirs = torch.cat(seen)[1:].view(side, side).T.flatten()  # the first is of the whole photo; rows change quickest
    own = ours(corners)
    change = float((own - torch.cat(seen)[0]).abs().max())
    apart = float((own - theirs).abs().max())

    coarse = min(2 * occluder.stride, occluder.size)
    size = quickest(batches, lambda size: captum(size, stride=coarse), on)
    count = len(corners)
    works = [Work("deconvnet", lambda: ours(corners), count), Work("captum", lambda: captum(size), count)]
    batch = x[None].expand(min(32, count), -1, -1, -1).contiguous()
    passes = forward_passes(net.module, batch, max(1, count // len(batch)), on)
    rates = timed([*works, *passes], repeats, on)
    peer, limit = rates["captum"].median, max(rates[work.name].median for work in passes)
    rows = [Row(f"{net.name}, deconvnet", rates["deconvnet"], {"captum": peer}, limit)]
    rows += [Row(f"{net.name}, {work.name}", rates[work.name], {}, limit) for work in (works[1], *passes)]
    goals = [Goal(f"{net.name}: largest difference of probabilities", apart, most=1e-5)]
    if net.name in GOALS:
        goals.insert(0, Goal(f"{net.name}: times captum", rates["deconvnet"].median / peer, least=GOALS[net.name]))
    found = {
        "positions": count,
        "scores_multiplied_by": times,
        "photo": photos.paths[0],
        "batch_of_captum": size,
        "probability_of_whole_photo": float(torch.cat(seen)[0]),
        "largest_change_by_occluding": change,
        "largest_difference_of_probabilities": apart,
    }
    return rows, goals, {net.full_name: found}


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS, or several with commas between them.")] = (
        "alexnet:random,zfnet:random"
    ),
    images: Images = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels of the square, across and down.")] = 50,
    stride: Annotated[int, typer.Option(min=1, help="Pixels between positions.")] = 6,
    batches: Annotated[str, typer.Option(help="Batch sizes of which captum has its best.")] = "16,32,64,128",
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, occluder = torch.device(device), Occluder(size, stride)
    rows: list[Row] = []
    goals: list[Goal] = []
    found: dict[str, Any] = {}
    with jpeg_folder(images, 1) as folder:
        for name in network.split(","):
            more = measure(name, folder, occluder, numbers(batches), repeats, on)
            rows, goals, found = rows + more[0], goals + more[1], found | more[2]
    report("occlusion_speed", f"positions of a square of {size} pixels", arguments, rows, goals, found, on, out)


if __name__ == "__main__":
    typer.run(main)
