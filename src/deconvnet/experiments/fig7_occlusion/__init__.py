"""Section 4.2 and Fig. 7: a unit's activation and the class probabilities as a patch of the image is occluded."""

from deconvnet.experiments.fig7_occlusion.compute import (
    forward_occluded,
    forward_occluded_in_batches,
    occlude,
    write_occlusion,
)
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.result import Occlusion

__all__ = ["Occluder", "Occlusion", "forward_occluded", "forward_occluded_in_batches", "occlude", "write_occlusion"]
