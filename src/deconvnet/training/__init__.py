"""Training from scratch (section 3), and the errors it is judged by."""

from deconvnet.training.recipe import RECIPES, Recipe, read_recipe
from deconvnet.training.run_folder import read_log
from deconvnet.training.trainer import TRAINABLE, topk_errors, train

__all__ = ["RECIPES", "TRAINABLE", "Recipe", "read_log", "read_recipe", "topk_errors", "train"]
