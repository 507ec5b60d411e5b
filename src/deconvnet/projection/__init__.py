"""Projections of single activations to pixel space (section 2.1), and pictures of them."""

from deconvnet.projection.batch import project_batch
from deconvnet.projection.picture import display_scale, picture, to_pixels
from deconvnet.projection.plan_batches import plan_batches
from deconvnet.projection.project import Projection, project, strongest_unit
from deconvnet.projection.projection_batch import ProjectionBatch, strongest_position
from deconvnet.projection.rules import RULES, rule_set
from deconvnet.projection.way_down import check_way_down, layers_with_way_down

__all__ = [
    "RULES",
    "Projection",
    "ProjectionBatch",
    "check_way_down",
    "display_scale",
    "layers_with_way_down",
    "picture",
    "plan_batches",
    "project",
    "project_batch",
    "rule_set",
    "strongest_position",
    "strongest_unit",
    "to_pixels",
]
