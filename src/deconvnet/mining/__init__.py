"""Section 4: the strongest activations of every unit over a set of photos, found in one pass."""

from deconvnet.mining.mine import mine, to_result
from deconvnet.mining.results import Hit, LayerHits, MiningResult
from deconvnet.mining.shared import merge_parts, mine_part, mine_together
from deconvnet.mining.state import Key, State
from deconvnet.mining.statistics import HISTOGRAM_EDGES

__all__ = [
    "HISTOGRAM_EDGES",
    "Hit",
    "Key",
    "LayerHits",
    "MiningResult",
    "State",
    "merge_parts",
    "mine",
    "mine_part",
    "mine_together",
    "to_result",
]
