"""Training from scratch (section 3), and the errors it is judged by."""

from deconvnet.training.initial_network import TRAINABLE
from deconvnet.training.recipe import RECIPES, Recipe, read_recipe
from deconvnet.training.run_folder import read_log
from deconvnet.training.train import train
from deconvnet.training.validation import topk_errors

__all__ = ["RECIPES", "TRAINABLE", "Recipe", "read_log", "read_recipe", "topk_errors", "train"]
