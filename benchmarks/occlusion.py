"""Is what an occlusion map calls important more important than the background, to an occluder that did not make the map?

    python benchmarks/occlusion.py zfnet imagenette/val [--photos 50]

For randomly drawn photos in class folders the map of the true class's probability is made with a square of 50 pixels. Then
a disc of 50 pixels of another colour (black) is laid, one after the other, over the ten places where the map is lowest, and
over the background: the four corners of the view, which mostly show that, and the ten places where the map is highest. A
photo counts if the first lowers the probability more, on average, than the background does. Written to benchmarks/results:
how many photos count, also by the lowest place alone, and the mean probabilities; and how much faster maps are made than by
whole passes.
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
from deconvnet.experiments.fig7_occlusion.compute import occluded_scores
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.models import Network, load
from deconvnet.tracing import paste

RESULTS = Path(__file__).parent / "results"

MAPPING = Occluder(50, 12)
TESTING = Occluder(50, 12, (0, 0, 0), "disc")
#: Places that are important, and as many that are not.
_PLACES = 10


def probabilities(network: Network, x: Tensor, target: int, occluder: Occluder, corners: Tensor) -> Tensor:
    return occluded_scores(network, x, occluder, corners, network.convolutional_layers[-1], 0)[1][:, target].exp()


def judge(network: Network, x: Tensor, target: int) -> dict[str, float]:
    """The probability of the class: of the whole photo, and with each of them covered."""
    crop = network.preprocessing.crop
    corners, last = MAPPING.corners(crop), MAPPING.starts(crop)[-1]
    order = probabilities(network, x, target, MAPPING, corners).argsort()
    background = torch.cartesian_prod(torch.tensor([0, last]), torch.tensor([0, last]))
    covered = {
        "most important": corners[order[:1]],
        "important": corners[order[:_PLACES]],
        "corners": background,
        "unimportant": corners[order[-_PLACES:]],
    }
    found = {name: float(probabilities(network, x, target, TESTING, places).mean()) for name, places in covered.items()}
    return {"whole": float(network.probabilities(x[None])[0, target]), **found}


def speed(network: Network, x: Tensor) -> dict[str, float]:
    """Positions per second of the paper's occluder: what can change recomputed, and whole passes."""
    occluder = Occluder()
    corners = occluder.corners(network.preprocessing.crop)[::7][:128]
    start = time.perf_counter()
    occluded_scores(network, x, occluder, corners, network.convolutional_layers[-1], 0)
    patched = time.perf_counter() - start
    start = time.perf_counter()
    for part in torch.split(corners, 32):
        versions = x.repeat(len(part), 1, 1, 1)
        paste(versions, occluder.windows(x, part, network.preprocessing), part)
        network.probabilities(versions).cpu()  # waits for a GPU
    return {"patched": len(corners) / patched, "whole": len(corners) / (time.perf_counter() - start)}


def draw(network: Network, photos: ImageSet, count: int) -> list[tuple[Tensor, int]]:
    """Random photos whose folder is one of the network's classes, as inputs, with their classes."""
    ids = [id for id, _ in network.classes or ()]
    known = [index for index in range(len(photos)) if photos.file(index).parent.name in ids]
    chosen = np.random.default_rng(0).choice(known, min(count, len(known)), replace=False)
    return [(network.preprocess(photos.read(index)), ids.index(photos.file(index).parent.name)) for index in chosen.tolist()]


def main(
    network: str,
    images: Path,
    photos: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 50,
) -> None:
    net, found = load(network), find_images(images)
    drawn = draw(net, found, photos)
    rows = [judge(net, x, target) for x, target in track(drawn, "occluding")]
    result = {
        "network": net.full_name,
        "images": {"digest": found.digest, "drawn": len(rows)},
        "lowers_it_more": {
            f"{places} than {background}": float(np.mean([row[places] < row[background] for row in rows]))
            for places in ("important", "most important")
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
