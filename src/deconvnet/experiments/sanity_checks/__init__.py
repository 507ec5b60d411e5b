"""Sanity checks of projections and occlusion maps, by randomising weights (Adebayo et al. 2018)."""

from deconvnet.experiments.sanity_checks.compute import check_sanity, write_sanity
from deconvnet.experiments.sanity_checks.result import SanityCheck

__all__ = ["SanityCheck", "check_sanity", "write_sanity"]
