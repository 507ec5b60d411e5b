"""Counting what networks get wrong, batch by batch: views of photos, averaged probabilities, misses."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, PackedImageSet, batches
from deconvnet.data.transforms import SQUARE, central_view, ten_views
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.class_labels import Outputs
from deconvnet.models import Network, Preprocessing
from deconvnet.models.preprocessing import Interpolation
from deconvnet.progress import bar


@dataclass
class Counts:
    """What has been counted so far; counts of disjoint photos add up."""

    wrong: list[tuple[int, int]]
    """Photos whose class was not the first, and not among the first five: of each network, then of their average."""
    photos: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Paths of photos that could not be read, with the reason."""

    def add(self, other: Self) -> None:
        pairs = zip(self.wrong, other.wrong, strict=True)
        self.wrong = [(ours[0] + theirs[0], ours[1] + theirs[1]) for ours, theirs in pairs]
        self.photos += other.photos
        self.skipped |= other.skipped

    def of_all(self, processes: Processes) -> Self:
        """The sum over all processes, in all of them."""
        if processes.count == 1:
            return self
        if processes.first:
            for rank in range(1, processes.count):
                self.add(type(self)(**json.loads(processes.receive(rank))))
        else:
            processes.send(json.dumps(asdict(self)).encode())
        return type(self)(**json.loads(processes.broadcast(json.dumps(asdict(self)).encode())))


@dataclass(frozen=True)
class _Frame:
    """The part of a photo that all views of it lie in: after resizing its shorter side, the central square."""

    resize: int
    size: int
    interpolation: Interpolation

    @classmethod
    def of(cls, preprocessing: Preprocessing, views: int) -> Self:
        size = preprocessing.crop if views == 1 else preprocessing.resize
        return cls(preprocessing.resize, size, preprocessing.interpolation)

    def cut(self, photo: Image.Image) -> Tensor:
        """(size · size · 3,) uint8."""
        return torch.from_numpy(np.array(central_view(photo, self.resize, self.size, self.interpolation))).flatten()


def check_views(network: Network, photos: ImageSet, views: int) -> None:
    """Raise `DeconvnetError` where there are not `views` different views of the photos that are large enough."""
    crop, resize = network.preprocessing.crop, network.preprocessing.resize
    if isinstance(photos, PackedImageSet) and crop > SQUARE:
        raise DeconvnetError(
            f"{network.full_name} is shown {crop}×{crop} pixels, and the packed set {photos.root} has {SQUARE}×{SQUARE}: "
            "pass the folder of photos instead."
        )
    if views > 1 and crop == resize:
        raise DeconvnetError(
            f"{network.full_name} is shown the whole central square of {crop}×{crop} pixels, so that its corners and its "
            "centre are all the same: pass --views 1."
        )


def count_wrong(
    networks: Sequence[Network],
    outputs: Sequence[Outputs],
    photos: ImageSet,
    views: int,
    own: Sequence[int],
    *,
    batch_size: int,
    workers: int | None,
    progress: bool,
) -> Counts:
    """What `networks` with their `outputs` get wrong of the photos `own`; and their average, where `have_average`.

    A photo is read once for all of them; of one view at a time, `batch_size` photos go through a network.
    """
    frames = [_Frame.of(network.preprocessing, views) for network in networks]
    different = list(dict.fromkeys(frames))
    targets = [_targets(photos, found) for found in outputs]
    averaged = have_average(outputs)
    counts = Counts([(0, 0)] * (len(networks) + averaged))

    def cut(photo: Image.Image) -> Tensor:
        return torch.cat([frame.cut(photo) for frame in different])

    with bar("judging", len(own), progress) as advance, torch.inference_mode():
        for batch in batches(photos, cut, batch_size, workers, own):
            if len(batch.rows):
                parts = torch.split(batch.inputs, [frame.size**2 * 3 for frame in different], dim=1)
                squares = {
                    frame: part.reshape(batch_size, frame.size, frame.size, 3).numpy()
                    for frame, part in zip(different, parts, strict=True)
                }
                all_found = [
                    mean_probabilities(network, squares[frame], views)[batch.rows]
                    for network, frame in zip(networks, frames, strict=True)
                ]
                wrong = [misses(found, classes[batch.images]) for found, classes in zip(all_found, targets, strict=True)]
                if averaged:
                    wrong.append(misses(torch.stack(all_found).mean(dim=0), targets[0][batch.images]))
                counts.add(Counts(wrong, len(batch.rows)))
            counts.skipped |= {photos.paths[index]: reason for index, reason in batch.skipped.items()}
            advance(len(batch.rows) + len(batch.skipped))
    return counts


def misses(probabilities: Tensor, targets: Tensor) -> tuple[int, int]:
    """Of (N, classes), how many rows do not have their target (N,) first, and not among the first five.

    Among equal ones the first is the higher, which is a rule where `topk` leaves it open.
    """
    own = probabilities.gather(1, targets[:, None])
    before = torch.arange(probabilities.shape[1]) < targets[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & before)).sum(dim=1)
    return int((rank >= 1).sum()), int((rank >= 5).sum())


def mean_probabilities(network: Network, squares: np.ndarray, views: int) -> Tensor:
    """The mean over views of (N, size, size, 3) uint8: (N, classes) float64, on the CPU."""
    preprocessing = network.preprocessing
    shown = squares[:, None] if views == 1 else ten_views(squares, preprocessing.crop)
    # One view at a time, so that ten take no more memory than one.
    by_view = [
        network.probabilities(preprocessing.normalise(torch.from_numpy(shown[:, view]).to(network.device)))
        for view in range(views)
    ]
    found = torch.stack(by_view).cpu().double().mean(dim=0)
    if not found.isfinite().all():
        raise DeconvnetError(f"{network.full_name} gives probabilities that are no numbers: its weights are damaged.")
    return found


def have_average(outputs: Sequence[Outputs]) -> bool:
    """Whether there are several networks, and all of them number the same classes alike."""
    return len(outputs) > 1 and all(found == outputs[0] for found in outputs)


def _targets(photos: ImageSet, outputs: Outputs) -> Tensor:
    """(photos,) int64, the output that stands for each photo's class."""
    answers = dict(zip(photos.classes, outputs.numbers, strict=True))
    return torch.tensor([answers[label] for label in photos.labels])
