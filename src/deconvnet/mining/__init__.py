"""Section 4: the strongest activations of every unit over a set of images, found in one pass."""

from deconvnet.mining.mine import merge_parts, mine, mine_part, mine_remaining, split_indices, to_result
from deconvnet.mining.results import Hit, LayerHits, MiningResult, draw_random_units
from deconvnet.mining.state import MiningKey, MiningState
from deconvnet.mining.statistics import HISTOGRAM_EDGES

__all__ = [
    "HISTOGRAM_EDGES",
    "Hit",
    "LayerHits",
    "MiningKey",
    "MiningResult",
    "MiningState",
    "draw_random_units",
    "merge_parts",
    "mine",
    "mine_part",
    "mine_remaining",
    "split_indices",
    "to_result",
]
