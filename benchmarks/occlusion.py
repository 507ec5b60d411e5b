"""Do the important positions of an occlusion map matter more than the background to a different occluder?

    python benchmarks/occlusion.py zfnet imagenette/val [--photos 50]

For randomly drawn photos in class folders, the map of the true class's probability is computed with a square of 50 pixels.
Then a disc of 50 pixels in another colour (black) occludes the ten positions where the map is lowest, one after another, and
the background: the four corners of the view, which mostly show it, and the ten positions where the map is highest. A photo
counts if the former lower the probability more, on average, than the latter. Written to benchmarks/results: the fraction of
photos that count, also for the lowest position alone, and the mean probabilities; and positions per second, compared with
whole forward passes.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

from deconvnet.data import ImageSet, find_images
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.models import Network, load
from deconvnet.tracing import paste

RESULTS = Path(__file__).parent / "results"

MAP_OCCLUDER = Occluder(50, 12)
TEST_OCCLUDER = Occluder(50, 12, (0, 0, 0), "disc")
#: Positions that count as important, and as many as unimportant.
_NUM_POSITIONS = 10


def probabilities(network: Network, x: Tensor, target: int, occluder: Occluder, corners: Tensor) -> Tensor:
    """(N,) of class `target`, with the occluder's upper left corner at each of `corners` (N, 2)."""
    layer = network.convolutional_layers[-1]
    return forward_occluded_in_batches(network, x, occluder, corners, layer, 0)[1][:, target].exp()


def mean_probabilities(network: Network, x: Tensor, target: int) -> dict[str, float]:
    """The probability of the class for the whole photo, and the mean with each group of positions occluded."""
    crop = network.preprocessing.crop
    corners, last = MAP_OCCLUDER.corners(crop), MAP_OCCLUDER.starts(crop)[-1]
    order = probabilities(network, x, target, MAP_OCCLUDER, corners).argsort()
    background = torch.cartesian_prod(torch.tensor([0, last]), torch.tensor([0, last]))
    groups = {
        "most important": corners[order[:1]],
        "important": corners[order[:_NUM_POSITIONS]],
        "corners": background,
        "unimportant": corners[order[-_NUM_POSITIONS:]],
    }
    means = {name: float(probabilities(network, x, target, TEST_OCCLUDER, group).mean()) for name, group in groups.items()}
    return {"whole": float(network.probabilities(x[None])[0, target]), **means}


def speed(network: Network, x: Tensor) -> dict[str, float]:
    """Positions per second of the paper's occluder: by incremental forward passes, and by whole ones."""
    occluder = Occluder()
    corners = occluder.corners(network.preprocessing.crop)[::7][:128]
    start = time.perf_counter()
    forward_occluded_in_batches(network, x, occluder, corners, network.convolutional_layers[-1], 0)
    patched = time.perf_counter() - start
    start = time.perf_counter()
    for batch in torch.split(corners, 32):
        inputs = x.repeat(len(batch), 1, 1, 1)
        paste(inputs, occluder.occluded_windows(x, batch, network), batch)
        network.probabilities(inputs).cpu()  # waits for a GPU
    return {"patched": len(corners) / patched, "whole": len(corners) / (time.perf_counter() - start)}


def draw(network: Network, image_set: ImageSet, count: int) -> list[tuple[Tensor, int]]:
    """Random images whose folder is one of the network's classes: (input, class index) of each."""
    ids = [id for id, _ in network.classes or ()]
    labels = [image_set.file(index).parent.name for index in range(len(image_set))]
    candidates = [index for index, label in enumerate(labels) if label in ids]
    chosen = np.random.default_rng(0).choice(candidates, min(count, len(candidates)), replace=False)
    return [(network.preprocess(image_set.read(index)), ids.index(labels[index])) for index in chosen.tolist()]


def main(
    network: str,
    images: Path,
    photos: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 50,
) -> None:
    net, image_set = load(network), find_images(images)
    drawn = draw(net, image_set, photos)
    rows = [mean_probabilities(net, x, target) for x, target in track(drawn, "occluding")]
    result = {
        "network": net.full_name,
        "images": {"digest": image_set.digest, "drawn": len(rows)},
        "lowers_it_more": {
            f"{positions} than {background}": float(np.mean([row[positions] < row[background] for row in rows]))
            for positions in ("important", "most important")
            for background in ("corners", "unimportant")
        },
        "mean_probability": {name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
        "positions_per_second": speed(net, drawn[0][0]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"occlusion-{net.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    Console().print_json(data=result)


if __name__ == "__main__":
    typer.run(main)
