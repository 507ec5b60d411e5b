"""What the same pass tells of each unit beside its strongest activations: how often, how strongly, for which classes."""

import torch
from torch import Tensor

#: Bounds of the histogram of maxima, four to a decade from 0.001 to 100,000. Fixed, so that histograms of different photos
#: and networks can be compared and added.
HISTOGRAM_EDGES = torch.tensor([10 ** (quarter / 4) for quarter in range(-12, 21)], dtype=torch.float64)

#: No maximum may be as large as this: 2²⁴ photos of it would overflow the sums.
LARGEST = 2.0**31

#: Sums are whole numbers of 2⁻⁸ (the coarse part) and of 2⁻⁴⁸ (the fine part, below 2⁴⁰ of them), because whole numbers add
#: up to the same in every order and grouping, which floating-point numbers do not. A float32 from 2⁻²⁴ on is such a number;
#: a smaller one is rounded to it.
_COARSE, _FINE = 8, 40


class Statistics:
    """Sums over images of each unit's maximum over positions; sums of disjoint sets of images add up.

    What it holds depends, to the last bit, only on what was added, not on the order or the grouping of the additions.
    """

    def __init__(self, units: int, classes: int) -> None:
        self.active = torch.zeros(units, dtype=torch.int64)
        """(units,) images in which the unit is active: its maximum is above 0."""
        self.histogram = torch.zeros(units, len(HISTOGRAM_EDGES) + 1, dtype=torch.int64)
        """(units, bins) maxima above 0: below the first edge, between edges (the lower one included), from the last on."""
        self.counts = torch.zeros(classes + 1, dtype=torch.int64)
        """(classes + 1,) images of each class, and of none."""
        self.totals = torch.zeros(2, classes + 1, units, dtype=torch.int64)
        """(2, classes + 1, units) coarse and fine part of the sums of maxima over the images of each class, and of none."""

    def add(self, maxima: Tensor, labels: Tensor) -> None:
        """Take in n images: `maxima` (n, units) below `LARGEST`, and the numbers of their classes (n,), -1 for none."""
        maxima = maxima.double()
        active = maxima > 0
        self.active += active.sum(dim=0)
        bins = torch.bucketize(maxima, HISTOGRAM_EDGES, right=True)
        self.histogram.scatter_add_(1, bins.T, active.T.long())
        rows = labels.where(labels >= 0, len(self.counts) - 1)
        self.counts += torch.bincount(rows, minlength=len(self.counts))
        scaled = maxima * 2**_COARSE
        coarse = scaled.floor()
        for total, part in zip(self.totals, (coarse, ((scaled - coarse) * 2**_FINE).round()), strict=True):
            total.index_add_(0, rows, part.long())
        self._carry()

    def merge(self, other: "Statistics") -> None:
        """Take in the sums over another, disjoint set of images with the same classes."""
        for mine, theirs in zip(self.tensors().values(), other.tensors().values(), strict=True):
            mine += theirs
        self._carry()

    def _carry(self) -> None:
        coarse, fine = self.totals
        coarse += fine >> _FINE
        fine &= 2**_FINE - 1

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by its names in a state file; changing them changes it."""
        return {"active": self.active, "histogram": self.histogram, "counts": self.counts, "totals": self.totals}

    @property
    def images(self) -> int:
        """How many images were added."""
        return int(self.counts.sum())

    @property
    def class_images(self) -> Tensor:
        """(classes,) images of each class."""
        return self.counts[:-1]

    @property
    def sums(self) -> Tensor:
        """(units,) float64 sums of maxima."""
        return _as_float(self.totals.sum(dim=1))

    @property
    def class_sums(self) -> Tensor:
        """(classes, units) float64 sums of maxima over the images of a class."""
        return _as_float(self.totals[:, :-1])

    @property
    def active_share(self) -> Tensor:
        """(units,) the share of images in which the unit is active."""
        return self.active.double() / max(self.images, 1)

    @property
    def mean_max(self) -> Tensor:
        """(units,) the mean over images of the unit's maximum."""
        return self.sums / max(self.images, 1)

    @property
    def selectivity(self) -> Tensor:
        """(units,) the class selectivity index of Morcos et al. 2018, of maxima: (μ − μ′) / (μ + μ′) with μ the mean of the
        class that drives the unit most and μ′ the mean over all other classes' images; 0 for a dead unit, NaN where there
        are fewer than two classes.
        """
        present = self.class_images > 0
        if present.sum() < 2:
            return torch.full_like(self.sums, torch.nan)
        sums, counts = self.class_sums[present], self.class_images[present].double()[:, None]
        best = (sums / counts).max(dim=0)
        rest = (sums.sum(dim=0) - sums.gather(0, best.indices[None])[0]) / (counts.sum() - counts[best.indices, 0])
        total = best.values + rest
        return torch.where(total > 0, (best.values - rest) / total.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _as_float(parts: Tensor) -> Tensor:
    coarse, fine = parts.double()
    return (coarse + fine * 2.0**-_FINE) * 2.0**-_COARSE
