"""Section 4.2 and Fig. 7: what happens to a classifier when part of an image is covered."""

from deconvnet.experiments.fig7_occlusion.compute import occlude, write_occlusion
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.result import Occlusion

__all__ = ["Occluder", "Occlusion", "occlude", "write_occlusion"]
