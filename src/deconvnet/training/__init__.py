"""Section 3: networks trained from scratch."""

from deconvnet.training.recipe import RECIPES, Recipe, read_recipe
from deconvnet.training.run_folder import read_log
from deconvnet.training.setup import TRAINABLE
from deconvnet.training.train import train

__all__ = ["RECIPES", "TRAINABLE", "Recipe", "read_log", "read_recipe", "train"]
