"""Atlases: folders with pictures and tables of every unit, and pages to browse them."""

from deconvnet.atlas.atlas import Atlas

__all__ = ["Atlas"]
