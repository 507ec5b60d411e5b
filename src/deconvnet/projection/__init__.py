"""Section 2.1: from one activation down to pixel space."""

from deconvnet.projection.picture import grey_scale, picture, to_pixels
from deconvnet.projection.project import Projected, Projection, project, project_each, strongest_unit
from deconvnet.projection.rules import RULES, rule_set

__all__ = [
    "RULES",
    "Projected",
    "Projection",
    "grey_scale",
    "picture",
    "project",
    "project_each",
    "rule_set",
    "strongest_unit",
    "to_pixels",
]
