"""Section 4.3, Table 1 and Fig. 8: whether a network relates the same part of different objects."""

from deconvnet.experiments.table1_correspondence.compute import correspond, write_correspondence
from deconvnet.experiments.table1_correspondence.landmarks import read_landmarks
from deconvnet.experiments.table1_correspondence.result import Correspondence, PartScore, RandomMaskScore

__all__ = ["Correspondence", "PartScore", "RandomMaskScore", "correspond", "read_landmarks", "write_correspondence"]
