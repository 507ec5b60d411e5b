"""Fig. 5: how translating, scaling and rotating an image changes a network's features and output."""

from deconvnet.experiments.fig5_invariance.compute import transform, write_invariance
from deconvnet.experiments.fig5_invariance.result import Invariance

__all__ = ["Invariance", "transform", "write_invariance"]
