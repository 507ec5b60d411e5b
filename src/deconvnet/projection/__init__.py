"""Section 2.1: from one activation down to pixel space."""

from deconvnet.projection.picture import grey_scale, picture, to_pixels
from deconvnet.projection.project import Projected, Projection, project, project_each, strongest_unit
from deconvnet.projection.rules import DECONVNET, RULES, rule_set
from deconvnet.tracing import Rules

__all__ = [
    "DECONVNET",
    "RULES",
    "Projected",
    "Projection",
    "Rules",
    "grey_scale",
    "picture",
    "project",
    "project_each",
    "rule_set",
    "strongest_unit",
    "to_pixels",
]
