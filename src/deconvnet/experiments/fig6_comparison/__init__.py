"""Fig. 6: two networks compared, AlexNet and ZFNet for instance."""

from deconvnet.experiments.fig6_comparison.compute import compare, write_comparison
from deconvnet.experiments.fig6_comparison.findings import Finding
from deconvnet.experiments.fig6_comparison.network_stats import LayerStats, NetworkStats
from deconvnet.experiments.fig6_comparison.result import Comparison

__all__ = ["Comparison", "Finding", "LayerStats", "NetworkStats", "compare", "write_comparison"]
