"""Table 3: networks with layers removed or resized."""

from deconvnet.experiments.table3_ablation.compute import ablate
from deconvnet.experiments.table3_ablation.result import Ablation

__all__ = ["Ablation", "ablate"]
