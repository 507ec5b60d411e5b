"""Fig. 5: how translating, scaling and rotating an image changes a network's features and output."""

from deconvnet.experiments.fig5_invariance.compute import measure_invariance, write_invariance
from deconvnet.experiments.fig5_invariance.curves import relative_distances
from deconvnet.experiments.fig5_invariance.result import Invariance
from deconvnet.experiments.fig5_invariance.transforms import TRANSFORMATIONS

__all__ = ["TRANSFORMATIONS", "Invariance", "measure_invariance", "relative_distances", "write_invariance"]
