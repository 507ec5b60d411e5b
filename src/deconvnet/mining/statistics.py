"""Statistics of each unit, collected with its hits: how often it is active, how strongly, for which classes."""

import torch
from torch import Tensor

#: Edges of the histogram of maxima, four per decade from 0.001 to 100,000. Fixed, so that histograms of different images and
#: networks can be compared and added.
HISTOGRAM_EDGES = torch.tensor([10 ** (quarter / 4) for quarter in range(-12, 21)], dtype=torch.float64)

#: The smallest float32 that are not below them: a float32 is below an edge exactly where it is below these.
_EDGES = HISTOGRAM_EDGES.float()
_EDGES = torch.where(_EDGES.double() < HISTOGRAM_EDGES, torch.nextafter(_EDGES, torch.full_like(_EDGES, torch.inf)), _EDGES)

#: Maxima must be below this: 2²⁴ images at this value would overflow the sums.
MAX_ACTIVATION = 2.0**31

#: Sums are kept as integers, because these add up to the same in every order and grouping, which floating-point numbers do
#: not: a coarse part in units of 2⁻⁸ and a fine part in units of 2⁻⁴⁸, below 2⁴⁰ of them. This holds a float32 of 2⁻²⁴ or
#: more exactly; a smaller one is rounded.
_COARSE_BITS, _FINE_BITS = 8, 40


class Statistics:
    """Sums over images of each unit's maximum over positions. The sums of disjoint sets of images can be added.

    The content depends, to the last bit, only on what was added, not on the order or the grouping of the additions.
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
        self._edges = _EDGES

    def add(self, maxima: Tensor, labels: Tensor) -> None:
        """Add n images: their `maxima` (n, units) float32 below `MAX_ACTIVATION`, and their class indices (n,) int64, -1 for
        none; on the device of these sums, which is not waited for.
        """
        active = maxima > 0
        self.active += active.sum(dim=0)
        bins = torch.bucketize(maxima, self._edges, right=True)
        self.histogram.scatter_add_(1, bins.T, active.T.long())
        rows = labels.where(labels >= 0, len(self.counts) - 1)
        self.counts.index_add_(0, rows, torch.ones_like(rows))
        scaled = maxima * 2**_COARSE_BITS
        coarse = scaled.trunc()
        fine = ((scaled - coarse) * 2**_FINE_BITS).round()  # exact in float32: both differ in powers of two only
        for total, summand in zip(self.totals, (coarse, fine), strict=True):
            total.index_add_(0, rows, summand.long())
        self._carry()

    def insert_classes(self, positions: list[int], classes: int) -> None:
        """Make room for new classes: there are `classes` then, and those that there are now move to `positions`."""
        kept = torch.tensor([*positions, classes], device=self.counts.device)
        counts, totals = self.counts, self.totals
        self.counts = counts.new_zeros(classes + 1)
        self.totals = totals.new_zeros(2, classes + 1, totals.shape[2])
        self.counts[kept], self.totals[:, kept] = counts, totals

    def merge(self, other: "Statistics") -> None:
        """Add the sums over another, disjoint set of images with the same classes."""
        for tensor, summand in zip(self.tensors().values(), other.tensors().values(), strict=True):
            tensor += summand
        self._carry()

    def to(self, device: torch.device | str) -> None:
        """Move the sums to a device."""
        self.active, self.histogram, self.counts, self.totals = (tensor.to(device) for tensor in self.tensors().values())
        self._edges = _EDGES.to(device)

    def _carry(self) -> None:
        coarse, fine = self.totals
        coarse += fine >> _FINE_BITS
        fine &= 2**_FINE_BITS - 1

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in a state file; not copies."""
        return {"active": self.active, "histogram": self.histogram, "counts": self.counts, "totals": self.totals}

    @property
    def image_count(self) -> int:
        """Number of images that were added."""
        return int(self.counts.sum())

    @property
    def class_images(self) -> Tensor:
        """(classes,) number of images of each class."""
        return self.counts[:-1]

    @property
    def sums(self) -> Tensor:
        """(units,) float64 sums of maxima over all images."""
        return _to_float(self.totals.sum(dim=1))

    @property
    def class_sums(self) -> Tensor:
        """(classes, units) float64 sums of maxima over the images of a class."""
        return _to_float(self.totals[:, :-1])

    @property
    def active_share(self) -> Tensor:
        """(units,) the fraction of images in which the unit is active, 0 to 1."""
        return self.active.double() / max(self.image_count, 1)

    @property
    def mean_max(self) -> Tensor:
        """(units,) the mean over images of the unit's maximum."""
        return self.sums / max(self.image_count, 1)

    @property
    def selectivity(self) -> Tensor:
        """(units,) class selectivity index of Morcos et al. 2018, of maxima: (μ − μ′) / (μ + μ′), where μ is the mean of the
        class with the largest mean and μ′ the mean over the images of all other classes. From 0 to 1; 0 for a dead unit, NaN
        if there are fewer than two classes.
        """
        present = self.class_images > 0
        if present.sum() < 2:
            return torch.full_like(self.sums, torch.nan)
        sums, counts = self.class_sums[present], self.class_images[present].double()[:, None]
        best = (sums / counts).max(dim=0)
        rest = (sums.sum(dim=0) - sums.gather(0, best.indices[None])[0]) / (counts.sum() - counts[best.indices, 0])
        total = best.values + rest
        return torch.where(total > 0, (best.values - rest) / total.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _to_float(totals: Tensor) -> Tensor:
    coarse, fine = totals.double()
    return (coarse + fine * 2.0**-_FINE_BITS) * 2.0**-_COARSE_BITS
