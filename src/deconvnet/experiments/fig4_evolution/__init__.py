"""Fig. 4: how units change while a network is trained."""

from deconvnet.experiments.fig4_evolution.compute import MAX_COMPARED_IMAGES, evolve, write_evolution
from deconvnet.experiments.fig4_evolution.layer_result import LayerEvolution
from deconvnet.experiments.fig4_evolution.result import Evolution
from deconvnet.experiments.fig4_evolution.snapshots import Snapshots, open_snapshots

__all__ = [
    "MAX_COMPARED_IMAGES",
    "Evolution",
    "LayerEvolution",
    "Snapshots",
    "evolve",
    "open_snapshots",
    "write_evolution",
]
