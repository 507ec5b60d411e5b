"""Table 2: top-1 and top-5 errors."""

from deconvnet.experiments.table2_errors.compute import evaluate
from deconvnet.experiments.table2_errors.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
