"""Section 2.1: from one activation down to pixel space."""

from deconvnet.projection.picture import display_scale, picture, to_pixels
from deconvnet.projection.project import (
    Projection,
    ProjectionBatch,
    project,
    project_batch,
    strongest_unit,
)
from deconvnet.projection.rules import RULES, rule_set

__all__ = [
    "RULES",
    "Projection",
    "ProjectionBatch",
    "display_scale",
    "picture",
    "project",
    "project_batch",
    "rule_set",
    "strongest_unit",
    "to_pixels",
]
