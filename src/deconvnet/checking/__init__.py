"""Check a network: self-checks, and its projections compared with those of a second implementation."""

from deconvnet.checking.compute import check

__all__ = ["check"]
