"""Mining: JPEGs on disk → the nine strongest photos of all units of the convolutional layers.

    python benchmarks/mining.py [--network alexnet:random] [--images FOLDER] [--photos 1000] [--device cuda]

Against the usual script (`mining_peer.py`: ImageFolder, DataLoader, hooks, topk), which has its best of `--batches`, and
which is left out where torchvision is not installed. The limit is the forward pass alone, of tensors in memory, as far as
the last layer mined.

Hits are equal if the same photos stand in the same order, except that two may change places whose values differ by less
than 1e-5, relative to them or, if that is more, to a hundredth of the layer's largest.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from side_by_side import (
    Device,
    Goal,
    Images,
    Out,
    Repeats,
    Row,
    UpTo,
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

from deconvnet.data import ImageSet, PackedImageSet, find_images, pack
from deconvnet.mining import MiningResult, mine
from deconvnet.models import Network, load

TOLERANCE, SMALL = 1e-5, 0.01
#: By layer, values and images (units, top); and the files of the images.
PeerResult = tuple[dict[str, tuple[Tensor, Tensor]], list[str]]


def peer_model(network: Network) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The module for the usual script, and its convolutions by layer."""
    module = as_written(network.module)
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
    if len(convolutions) != len(network.convolutional_layers):
        raise typer.BadParameter(f"{network.name} has not one convolution to each layer, as the usual script takes it.")
    return module, dict(zip(network.convolutional_layers, convolutions, strict=True))


def compare(result: MiningResult, peer: PeerResult) -> dict[str, Any]:
    """How many entries (unit, rank) hold the same image, and how many a different one whose value is not equal either."""
    peer_topk, files = peer
    image_set = result.image_set
    indices = {path: index for index, path in enumerate(image_set.paths)}
    if not isinstance(image_set, PackedImageSet):
        indices = {str(image_set.root / path): index for path, index in indices.items()}
        peer_indices = torch.tensor([indices[file] for file in files])
    else:  # it has the paths of the folder that it was packed from
        peer_indices = torch.tensor([indices["/".join(Path(file).parts[-2:])] for file in files])
    entries = same = different = 0
    largest = 0.0
    for layer, (values, images) in peer_topk.items():
        ours, top = result[layer].topk, images.shape[1]
        theirs = peer_indices[images].where(values > 0, -1)
        equal = ours.images[:, :top] == theirs
        scale = torch.maximum(values, SMALL * values.max())
        difference = (ours.values[:, :top] - values).abs() / scale
        entries += equal.numel()
        same += int(equal.sum())
        different += int((~equal & (difference > TOLERANCE)).sum())
        largest = max(largest, float(difference.max()))
    return {"places": entries, "same_photo": same, "different": different, "largest_difference_of_values": largest}


def compare_views(image_set: ImageSet, folder: Path, network: Network) -> dict[str, float]:
    """How views differ from torchvision's: images with any difference, the fraction of their channel values, grey levels."""
    indices = {str(image_set.root / path): index for index, path in enumerate(image_set.paths)}
    from mining_peer import VIEW
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(folder), VIEW)
    differing, largest, fraction = 0, 0, 0.0
    for number in range(len(dataset)):
        image = image_set.read(indices[dataset.samples[number][0]])
        ours = network.preprocessing.view_pixels(image).numpy().astype(int)
        difference = np.abs(ours - np.asarray(dataset[number][0]))
        differing += bool(difference.any())
        largest = max(largest, int(difference.max()))
        fraction += (difference > 0).mean()
    return {
        "photos": len(dataset),
        "photos_that_differ": differing,
        "share_of_pixels": fraction / max(differing, 1),
        "largest_grey_levels": largest,
    }


def main(
    network: Annotated[str, typer.Option(help="NAME:WEIGHTS")] = "alexnet:random",
    images: Images = None,
    photos: Annotated[int, typer.Option(help="How many photos to mine; 0: all.")] = 0,
    batches: Annotated[str, typer.Option(help="Batch sizes of which the usual script has its best.")] = "32,64,128",
    workers: Annotated[int, typer.Option(help="Processes of the usual script's DataLoader.")] = 2,
    repeats: Repeats = 3,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    arguments = {key: value for key, value in locals().items() if key != "out"}
    on, net = torch.device(device), load(network).to(device)
    if net.preprocessing.crop != 224:
        raise typer.BadParameter(f"The usual script shows 224×224 pixels, and {net.name} takes others.")
    usual_script = load_peer("mining_peer")
    with jpeg_folder(images, photos or None) as folder, tempfile.TemporaryDirectory() as temporary:
        packed = pack({"": find_images(folder)}, Path(temporary) / "packed")[""]
        count = len(packed)
        results: dict[str, Any] = {}
        details: dict[str, Any] = {"photos": count}

        def ours(name: str, source: Any) -> Work:
            return Work(name, lambda: results.update({name: mine(net, source)}), count)

        works = [ours("deconvnet", folder), ours("deconvnet, packed set", packed)]
        with jpeg_folder(folder, min(256, count)) as sample:
            sample_set = mine(net, sample).image_set  # first calls are slower
            if usual_script:
                module, layers = peer_model(net)

                def usual(images_folder: Path, size: int) -> PeerResult:
                    found: PeerResult = usual_script.strongest(
                        module, layers, images_folder, batch_size=size, workers=workers, device=device
                    )
                    return found

                details["views_against_torchvision"] = compare_views(sample_set, sample, net)
                size = quickest(numbers(batches), lambda size: usual(sample, size), on)
                details["batch_of_usual_script"] = size
                works.append(Work("usual script", lambda: results.update({"usual script": usual(folder, size)}), count))
        last = net.layer(net.convolutional_layers[-1]).index
        batch = torch.randn(min(32, count), 3, 224, 224)
        passes = forward_passes(UpTo(net.module, last), batch, max(1, min(count, 512) // 32), on)
        rates = timed([*works, *passes], repeats, on)

    limit = max(rates[work.name].median for work in passes)
    peers = {name: rates[name].median for name in ("usual script",) if name in rates}
    rows = [Row(work.name, rates[work.name], {} if work.name in peers else peers, limit) for work in works]
    rows += [Row(work.name, rates[work.name], {}, limit) for work in passes]
    goals = [Goal("packed set, share of the limit", rates["deconvnet, packed set"].median / limit, least=0.8)]
    if usual_script:
        hits = {work.name: compare(results[work.name], results["usual script"]) for work in works[:2]}
        details["hits_against_usual_script"] = hits
        goals += [
            Goal("deconvnet, times the usual script", rates["deconvnet"].median / peers["usual script"], least=2),
            Goal("places with another photo, not equal in value", hits["deconvnet"]["different"], most=0),
        ]
    report("mining", f"photos mined, {net.full_name}", arguments, rows, goals, details, on, out)


if __name__ == "__main__":
    typer.run(main)
