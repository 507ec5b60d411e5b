"""What the same pass tells of each unit beside its strongest activations: how often, how strongly, for which classes."""

import torch
from torch import Tensor

#: Bounds of the histogram of maxima, four to a decade from 0.001 to 100,000. Fixed, so that histograms of different photos
#: and networks can be compared and added.
HISTOGRAM_EDGES = torch.tensor([10 ** (quarter / 4) for quarter in range(-12, 21)], dtype=torch.float64)


class Statistics:
    """Sums over images of each unit's maximum over positions; sums of disjoint sets of images add up."""

    def __init__(self, units: int, classes: int) -> None:
        self.images = 0
        self.active = torch.zeros(units, dtype=torch.int64)
        """(units,) images in which the unit is active: its maximum is above 0."""
        self.sums = torch.zeros(units, dtype=torch.float64)
        """(units,) sums of maxima."""
        self.histogram = torch.zeros(units, len(HISTOGRAM_EDGES) + 1, dtype=torch.int64)
        """(units, bins) maxima above 0: below the first edge, between edges (the lower one included), from the last on."""
        self.class_sums = torch.zeros(classes, units, dtype=torch.float64)
        """(classes, units) sums of maxima over the images of a class."""
        self.class_images = torch.zeros(classes, dtype=torch.int64)
        """(classes,) images of each class."""

    def add(self, maxima: Tensor, labels: Tensor) -> None:
        """Take in n images: `maxima` (n, units) and the numbers of their classes (n,), -1 for an image without one."""
        maxima = maxima.double()
        active = maxima > 0
        self.images += len(maxima)
        self.active += active.sum(dim=0)
        self.sums += maxima.sum(dim=0)
        bins = torch.bucketize(maxima, HISTOGRAM_EDGES, right=True)
        self.histogram.scatter_add_(1, bins.T, active.T.long())
        labelled = labels >= 0
        self.class_sums.index_add_(0, labels[labelled], maxima[labelled])
        self.class_images += torch.bincount(labels[labelled], minlength=len(self.class_images))

    def merge(self, other: "Statistics") -> None:
        """Take in the sums over another, disjoint set of images with the same classes."""
        self.images += other.images
        for name in ("active", "sums", "histogram", "class_sums", "class_images"):
            getattr(self, name).add_(getattr(other, name))

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
