"""Projections of single activations to pixel space (section 2.1), and pictures of them."""

from deconvnet.projection.batch import ProjectionBatch, batches_by_photo, project_batch, strongest_position
from deconvnet.projection.picture import display_scale, picture, to_pixels
from deconvnet.projection.project import Projection, project, strongest_unit
from deconvnet.projection.rules import RULES, rule_set

__all__ = [
    "RULES",
    "Projection",
    "ProjectionBatch",
    "batches_by_photo",
    "display_scale",
    "picture",
    "project",
    "project_batch",
    "rule_set",
    "strongest_position",
    "strongest_unit",
    "to_pixels",
]
