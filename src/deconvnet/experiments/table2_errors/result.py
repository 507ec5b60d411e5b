"""Error rates of networks on one image set, as text and JSON, and next to the paper's Table 2."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from deconvnet.data import imagenet_classes
from deconvnet.experiments.table2_errors.paper_table import TABLE_2, Table2Row


@dataclass(frozen=True)
class ErrorRate:
    """The fraction of images that are misclassified."""

    errors: int
    images: int

    @property
    def rate(self) -> float:
        """`errors` / `images`, 0 to 1."""
        return self.errors / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: the true rates from which `rate` is at most 1.96 standard deviations away.

        It is about other images from the same distribution, not about other training runs of the network.
        """
        z, n, p = NormalDist().inv_cdf(0.975), self.images, self.rate
        middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))

    def __str__(self) -> str:
        return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * rate for rate in (self.rate, *self.interval)))

    def as_json(self) -> dict[str, Any]:
        return {"wrong": self.errors, "error": self.rate, "interval": list(self.interval)}


@dataclass(frozen=True)
class NetworkErrors:
    """The error rates of one network, or of the average of several."""

    name: str
    top1: ErrorRate
    top5: ErrorRate
    class_count: int
    """The number of the network's classes."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """For a network: the digest of its weights, and how its classes were matched with the folders."""

    @property
    def cells(self) -> tuple[str, str, str]:
        """Name, top-1 and top-5 error; of five classes or fewer, whose top-5 error is always 0, "–" instead."""
        return self.name, str(self.top1), str(self.top5) if self.class_count > 5 else "–"

    def as_json(self) -> dict[str, Any]:
        errors = {"top1": self.top1.as_json(), "top5": self.top5.as_json()}
        return {"network": self.name, "classes": self.class_count, **self.metadata, **errors}


@dataclass(frozen=True)
class Evaluation:
    """The error rates of networks on one image set."""

    data: str
    """The folder."""
    digest: str
    """SHA-256 that identifies the image set, the same as in atlases."""
    classes: tuple[str, ...]
    """The class folders."""
    views: int
    image_count: int
    """The number of images evaluated."""
    skipped: dict[str, str]
    """Path → reason of each image that could not be read; these are not counted."""
    networks: tuple[NetworkErrors, ...]
    ensemble: NetworkErrors | None
    """The average of the networks' probabilities, if there are several networks and their classes are the same."""

    @property
    def networks_and_ensemble(self) -> tuple[NetworkErrors, ...]:
        return (*self.networks, self.ensemble) if self.ensemble else self.networks

    @property
    def is_imagenet_val(self) -> bool:
        """Whether the number of images and the classes are those of ImageNet 2012's validation set."""
        return self.image_count == 50_000 and set(self.classes) == {id for id, _ in imagenet_classes()}

    def as_json(self) -> dict[str, Any]:
        """Plain values (docs/file-formats.md)."""
        return {
            "data": {
                "folder": self.data,
                "digest": self.digest,
                "photos": self.image_count,
                "classes": len(self.classes),
            },
            "views": self.views,
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped.items()],
            "networks": [errors.as_json() for errors in self.networks],
            "ensemble": self.ensemble and self.ensemble.as_json(),
        }

    def lines(self) -> list[str]:
        """A table of the errors in per cent, with their intervals."""
        rows = [errors.cells for errors in self.networks_and_ensemble]
        table = _align_columns([("", "top-1", "top-5"), *rows])
        return [f"{self._description()}. Errors in %:", *table, *self._remarks(), *self._skipped_lines()]

    def table_2(self) -> list[str]:
        """The paper's Table 2, then a row for each network here, each row with the data that it was measured on."""
        our_rows = [(*errors.cells, "–", f"{self.data} †") for errors in self.networks_and_ensemble]
        head = ("errors in %", "val top-1", "val top-5", "test top-5", "measured on")
        rows = [head, *map(_paper_cells, TABLE_2), *our_rows]
        note = "the paper's are of ImageNet 2012: 50,000 photos to validate, 100,000 to test, 1,000 classes"
        if self.is_imagenet_val:
            note = f"{note}. By number and classes these are the same photos."
        else:
            note = f"{note}. These are other photos, so the errors do not compare with the paper's."
        star = "* trained on ImageNet 2011 and 2012"
        return [
            *_align_columns(rows),
            star,
            f"† {self._description()}; {note}",
            *self._remarks(),
            *self._skipped_lines(),
        ]

    def _description(self) -> str:
        """What was measured."""
        views = {1: "one central view", 10: "ten views"}[self.views]
        return f"{self.data}: {self.image_count:,} photos of {len(self.classes):,} classes, {views} of each"

    def _remarks(self) -> list[str]:
        """Why a row or a cell is missing."""
        remarks = []
        if len(self.networks) > 1 and not self.ensemble:
            remarks.append("No average: the networks tell different classes apart, or number them differently.")
        if any(errors.class_count <= 5 for errors in self.networks_and_ensemble):
            remarks.append("– top-5 says nothing of five classes or fewer.")
        return remarks

    def _skipped_lines(self) -> list[str]:
        if not self.skipped:
            return []
        listed = [f"  {path} {reason}" for path, reason in self.skipped.items()]
        return [f"{len(self.skipped):,} photos could not be read and were skipped:", *listed]


def _paper_cells(row: Table2Row) -> tuple[str, ...]:
    errors = (row.val_top1, row.val_top5, row.test_top5)
    return (row.model, *("–" if error is None else f"{error:.1f}" for error in errors), "ImageNet 2012")


def _align_columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines of text, padded so that columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
