"""Section 3: networks trained from scratch."""

from deconvnet.training.recipe import RECIPES, Recipe, read_recipe
from deconvnet.training.renormalise import renormalise
from deconvnet.training.train import train

__all__ = ["RECIPES", "Recipe", "read_recipe", "renormalise", "train"]
