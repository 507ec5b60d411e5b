"""Table 2: the share of photos that networks, and their average, get wrong."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch

from deconvnet.data import ImageSet, imagenet_classes
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import find_labelled_images, match_classes
from deconvnet.experiments.table2_errors.counting import check_views, count_wrong, have_average
from deconvnet.experiments.table2_errors.paper_table import TABLE_2, Table2Row
from deconvnet.memory import keep_freed_memory
from deconvnet.mining.state import share
from deconvnet.models import Network


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
