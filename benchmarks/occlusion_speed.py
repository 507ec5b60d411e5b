"""Occlusion: a square of 50×50 pixels at 30×30 positions of one photo; the class's probability at each.

    python benchmarks/occlusion_speed.py [--network alexnet:random,zfnet:random] [--images FOLDER] [--device cuda]

Compared with captum's `Occlusion` (`occlusion_peer.py`) at the best of `--batches`, on the same weights in a plain module
with torch's local response normalisation; where captum is not installed, it is left out. The limit is as many whole forward
passes and nothing else. We compute only what the square can change, so we may be above it. The class is the network's
prediction for the photo, and our probabilities are compared with those of captum's forward passes.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
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
    load_peer,
    numbers,
    quickest,
    report,
    timed,
)
from torch import Tensor, nn

from deconvnet.data import find_images
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.models import Network, load

GOALS = {"alexnet": 2.5, "zfnet": 3.0}


def spread_scores(network: Network, x: Tensor) -> float:
    """Scale the last layer so that the scores for x have a standard deviation of 2. Returns the factor.

    The classes of an untrained network are about equally probable whatever is occluded, so that wrong probabilities would
    look right.
    """
    last = [module for module in network.module.modules() if isinstance(module, nn.Linear)][-1]
    factor = 2 / float(network.output(x[None]).std())
    with torch.no_grad():
        last.weight.mul_(factor)
        if last.bias is not None:
            last.bias.mul_(factor)
    return factor


class CaptumOcclusion:
    """Captum's way: `captum(batch_size)`."""

    def __init__(self, occlude: Any, module: nn.Module, x: Tensor, target: int, occluder: Occluder) -> None:
        self.occlude, self.module, self.x, self.target, self.occluder = occlude, module, x, target, occluder
        self._recorded: list[Tensor] | None = None

    def __call__(self, batch_size: int, stride: int = 0) -> Tensor:
        stride = stride or self.occluder.stride
        found: Tensor = self.occlude(self._probabilities, self.x, self.target, self.occluder.size, stride, batch_size)
        return found

    def probabilities_at_positions(self, batch_size: int, crop: int) -> tuple[Tensor, Tensor]:
        """Those of its forward passes: of the whole photo, and at each position in our order, float64 on the CPU."""
        self._recorded = []
        self(batch_size)
        found, self._recorded = torch.cat(self._recorded), None
        side = len(self.occluder.starts(crop))
        return found[0], found[1:].view(side, side).T.flatten()  # its rows change fastest

    def _probabilities(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.module(inputs).softmax(dim=1)
        if self._recorded is not None:
            self._recorded.append(output[:, self.target].cpu().double())
        return output


def measure(
    name: str, folder: Path, occluder: Occluder, batches: list[int], repeats: int, device: torch.device
) -> tuple[list[Row], list[Goal], dict[str, Any]]:
    """One network."""
    net = load(name).to(device)
    image_set = find_images(folder)
    x = net.preprocess(image_set.read(0))
    factor = spread_scores(net, x) if name.endswith(":random") else 1.0
    target = int(net.probabilities(x[None]).argmax())
    crop, layer = net.preprocessing.crop, net.convolutional_layers[-1]
    if (crop - occluder.size) % occluder.stride:
        raise typer.BadParameter(f"Captum covers pixels beyond the last position that we take: choose a stride for {crop}.")
    corners = occluder.corners(crop)
    count = len(corners)

    def ours() -> Tensor:
        return forward_occluded_in_batches(net, x, occluder, corners, layer, 0)[1][:, target].exp().cpu()

    our_probabilities = ours()
    details: dict[str, Any] = {"positions": count, "scores_multiplied_by": factor, "photo": image_set.paths[0]}
    works, goals = [Work("deconvnet", ours, count)], []
    peer = load_peer("occlusion_peer")
    if peer:
        captum = CaptumOcclusion(peer.occlude, as_written(net.module).to(device), x[None].to(device), target, occluder)
        clean_probability, captum_probabilities = captum.probabilities_at_positions(batches[0], crop)
        coarse = min(2 * occluder.stride, occluder.size)
        size = quickest(batches, lambda size: captum(size, stride=coarse), device)
        works.append(Work("captum", lambda: captum(size), count))
        difference = float((our_probabilities - captum_probabilities).abs().max())
        goals.append(Goal(f"{net.name}: largest difference of probabilities", difference, most=1e-5))
        details |= {
            "batch_of_captum": size,
            "probability_of_whole_photo": float(clean_probability),
            "largest_change_by_occluding": float((our_probabilities - clean_probability).abs().max()),
            "largest_difference_of_probabilities": difference,
        }
    batch = x[None].expand(min(32, count), -1, -1, -1).contiguous()
    passes = forward_passes(net.module, batch, max(1, count // len(batch)), device)
    rates = timed([*works, *passes], repeats, device)
    limit = max(rates[work.name].median for work in passes)
    peers = {"captum": rates["captum"].median} if peer else {}
    rows = [Row(f"{net.name}, deconvnet", rates["deconvnet"], peers, limit)]
    rows += [Row(f"{net.name}, {work.name}", rates[work.name], {}, limit) for work in (*works[1:], *passes)]
    if peer and net.name in GOALS:
        goals.insert(0, Goal(f"{net.name}: times captum", rates["deconvnet"].median / peers["captum"], GOALS[net.name]))
    return rows, goals, {net.full_name: details}


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
    torch_device, occluder = torch.device(device), Occluder(size, stride)
    rows: list[Row] = []
    goals: list[Goal] = []
    details: dict[str, Any] = {}
    with jpeg_folder(images, 1) as folder:
        for name in network.split(","):
            new_rows, new_goals, new_details = measure(name, folder, occluder, numbers(batches), repeats, torch_device)
            rows, goals, details = rows + new_rows, goals + new_goals, details | new_details
    report("occlusion_speed", f"positions of a square of {size} pixels", arguments, rows, goals, details, torch_device, out)


if __name__ == "__main__":
    typer.run(main)
