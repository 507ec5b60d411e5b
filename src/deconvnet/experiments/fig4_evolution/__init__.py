"""Fig. 4: how units change while a network is trained."""

from deconvnet.experiments.fig4_evolution.compute import evolve, write_evolution
from deconvnet.experiments.fig4_evolution.result import Evolution

__all__ = ["Evolution", "evolve", "write_evolution"]
