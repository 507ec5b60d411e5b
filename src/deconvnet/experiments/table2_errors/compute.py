"""Table 2: the share of photos that networks, and their average, get wrong."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, PackedImageSet, Preprocessing, batches, imagenet_classes
from deconvnet.data.transforms import SQUARE, Interpolation, central_view, ten_views
from deconvnet.distributed import Processes
from deconvnet.environment import keep_freed_memory
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import Outputs, find_labelled_images, match_classes
from deconvnet.experiments.table2_errors.paper_table import TABLE_2, Table2Row
from deconvnet.mining.state import share
from deconvnet.models import Network
from deconvnet.progress import bar


@dataclass(frozen=True)
class Error:
    """The share of photos that were got wrong."""

    wrong: int
    photos: int

    @property
    def share(self) -> float:
        return self.wrong / self.photos

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: the shares from which `share` is at most 1.96 standard deviations away.

        It speaks of other photos drawn alike, not of other trainings of the network.
        """
        z, n, p = NormalDist().inv_cdf(0.975), self.photos, self.share
        middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))

    def __str__(self) -> str:
        return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * share for share in (self.share, *self.interval)))

    def as_json(self) -> dict[str, Any]:
        return {"wrong": self.wrong, "error": self.share, "interval": list(self.interval)}


@dataclass(frozen=True)
class Judged:
    """One network, or the average of several."""

    name: str
    top1: Error
    top5: Error
    classes: int
    """How many it tells apart."""
    about: dict[str, Any] = field(default_factory=dict)
    """Of a network: the digest of its weights, and how its classes were matched with the folders."""

    @property
    def cells(self) -> tuple[str, str, str]:
        """Its name and its errors; no top-5 error where there are five classes at most, so that it cannot be but 0."""
        return self.name, str(self.top1), str(self.top5) if self.classes > 5 else "–"

    def as_json(self) -> dict[str, Any]:
        errors = {"top1": self.top1.as_json(), "top5": self.top5.as_json()}
        return {"network": self.name, "classes": self.classes, **self.about, **errors}


@dataclass(frozen=True)
class Evaluation:
    """What networks get wrong of a set of photos."""

    data: str
    digest: str
    """SHA-256 that tells the photos from others, as atlases have it."""
    classes: tuple[str, ...]
    views: int
    photos: int
    """How many were judged."""
    skipped: dict[str, str]
    """Photos that could not be read, with the reason; they count neither as right nor as wrong."""
    networks: tuple[Judged, ...]
    ensemble: Judged | None
    """Of several networks that tell the same classes apart, the average of their probabilities."""

    @property
    def judged(self) -> tuple[Judged, ...]:
        return (*self.networks, self.ensemble) if self.ensemble else self.networks

    @property
    def imagenet_size(self) -> bool:
        """Whether the photos are as many, and of the same classes, as ImageNet 2012's validation set."""
        return self.photos == 50_000 and set(self.classes) == {id for id, _ in imagenet_classes()}

    def as_json(self) -> dict[str, Any]:
        return {
            "data": {"folder": self.data, "digest": self.digest, "photos": self.photos, "classes": len(self.classes)},
            "views": self.views,
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped.items()],
            "networks": [judged.as_json() for judged in self.networks],
            "ensemble": self.ensemble and self.ensemble.as_json(),
        }

    def lines(self) -> list[str]:
        """A table of the errors in per cent, with their intervals."""
        rows = [judged.cells for judged in self.judged]
        table = _aligned([("", "top-1", "top-5"), *rows])
        return [f"{self._measured()}. Errors in %:", *table, *self._remarks(), *self._skipped()]

    def table_2(self) -> list[str]:
        """The paper's Table 2, then rows of ours, each with the data that it was measured on."""
        ours = [(*judged.cells, "–", f"{self.data} †") for judged in self.judged]
        rows = [("errors in %", "val top-1", "val top-5", "test top-5", "measured on"), *map(_cells, TABLE_2), *ours]
        theirs = "the paper's are of ImageNet 2012: 50,000 photos to validate, 100,000 to test, 1,000 classes"
        if self.imagenet_size:
            told = f"{theirs}. By number and classes these are the same photos."
        else:
            told = f"{theirs}. These are other photos, so the errors do not compare with the paper's."
        stars = "* trained on ImageNet 2011 and 2012"
        return [*_aligned(rows), stars, f"† {self._measured()}; {told}", *self._remarks(), *self._skipped()]

    def _measured(self) -> str:
        views = {1: "one central view", 10: "ten views"}[self.views]
        return f"{self.data}: {self.photos:,} photos of {len(self.classes):,} classes, {views} of each"

    def _remarks(self) -> list[str]:
        """What a reader of the rows may miss in them."""
        remarks = []
        if len(self.networks) > 1 and not self.ensemble:
            remarks.append("No average: the networks tell different classes apart, or number them differently.")
        if any(judged.classes <= 5 for judged in self.judged):
            remarks.append("– top-5 says nothing of five classes or fewer.")
        return remarks

    def _skipped(self) -> list[str]:
        if not self.skipped:
            return []
        named = [f"  {path} {reason}" for path, reason in self.skipped.items()]
        return [f"{len(self.skipped):,} photos could not be read and were skipped:", *named]


def evaluate(
    networks: Sequence[Network],
    data: Path | str | ImageSet,
    views: int = 10,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    processes: Processes | None = None,
    progress: bool = False,
) -> Evaluation:
    """Judge networks by photos with labels: the share whose class is not the first, or not among the first five.

    `data` is a folder with a folder per class, a packed set, or a folder with such a `val` in it. With one view a network is
    shown what it is shown everywhere (`network.preprocess`); with ten, the corners and the centre of the central square,
    each mirrored, and its probabilities are averaged. The square is `resize` pixels wide (the paper's 256, for all networks
    of the paper); a mean image, which is as wide as a view, is subtracted from each of the ten, as in cuda-convnet.

    Of several networks the average of their probabilities is judged as well, if all number the same classes alike. A
    prediction is one of all the network's classes, however few the photos have; among equal probabilities the first counts
    as the higher. Each of the `processes`, all of which must call this, judges a share; the result does not depend on their
    number.

    Raises `UsageError` for another number of views; `DeconvnetError` for photos without labels or that none can be read of,
    and for networks that cannot be judged by them.
    """
    if views not in (1, 10):
        raise UsageError(f"There are no {views} views: pass 1 or 10.")
    if not networks or batch_size < 1:
        raise UsageError(
            f"There are {len(networks)} networks and batches of {batch_size} photos: give at least one of each."
        )
    processes = processes or Processes()
    photos = find_labelled_images(data)
    for network in networks:
        check_views(network, photos, views)
    outputs = [match_classes(network, photos) for network in networks]
    digests = [network.digest for network in networks]
    if all(network.device.type == "cpu" for network in networks):
        keep_freed_memory()
    _check_alike([photos.digest, digests, views, batch_size], processes)
    counts = count_wrong(
        networks,
        outputs,
        photos,
        views,
        share(torch.arange(len(photos)), processes.rank, processes.count, batch_size).tolist(),
        batch_size=batch_size,
        workers=workers,
        progress=progress and processes.first,
    ).of_all(processes)
    if not counts.photos:
        path, reason = next(iter(counts.skipped.items()))
        raise DeconvnetError(f"None of the {len(photos)} photos in {photos.root} can be read: {path} {reason}.")
    names = [*(network.full_name for network in networks), f"{len(networks)} networks averaged"]
    abouts = [{"sha256": digest, "matched_by": found.by} for digest, found in zip(digests, outputs, strict=True)]
    judged = tuple(
        Judged(name, Error(top1, counts.photos), Error(top5, counts.photos), len(found.ids), about)
        for name, (top1, top5), found, about in zip(names, counts.wrong, [*outputs, outputs[0]], [*abouts, {}], strict=False)
    )
    return Evaluation(
        str(photos.root),
        photos.digest,
        photos.classes,
        views,
        counts.photos,
        dict(sorted(counts.skipped.items())),
        judged[: len(networks)],
        judged[len(networks)] if have_average(outputs) else None,
    )


def _check_alike(asked: list[Any], processes: Processes) -> None:
    """Raise `DeconvnetError` if not all processes were asked for the same."""
    said = json.dumps(asked).encode()
    if processes.count > 1 and processes.broadcast(said) != said:
        raise DeconvnetError(
            f"The first process judges other networks or photos than process {processes.rank}: start all with the same "
            "command, on the same photos."
        )


def _cells(row: Table2Row) -> tuple[str, ...]:
    errors = (row.val_top1, row.val_top5, row.test_top5)
    return (row.model, *("–" if error is None else f"{error:.1f}" for error in errors), "ImageNet 2012")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


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
