"""Section 4: the strongest activations of every unit over a set of photos, found in one pass."""

from deconvnet.mining.hits import Hit, LayerHits, Mined
from deconvnet.mining.mine import mine
from deconvnet.mining.statistics import HISTOGRAM_EDGES, Statistics
from deconvnet.mining.strongest import Strongest

__all__ = ["HISTOGRAM_EDGES", "Hit", "LayerHits", "Mined", "Statistics", "Strongest", "mine"]
