"""Table 2: top-1 and top-5 errors."""

from deconvnet.experiments.table2_errors.compute import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
