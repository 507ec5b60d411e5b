"""When going on with a training run is no use."""

import math

from deconvnet.errors import DeconvnetError
from deconvnet.training.checkpoint import Progress
from deconvnet.training.recipe import Recipe


class TrainingDiverged(DeconvnetError):
    """A run that the same command would only take to the same end."""


def check_loss(loss: float, step: int, classes: int, recipe: Recipe, at: Progress) -> None:
    """Take note of a step's loss. Raises `TrainingDiverged`, with advice, if it is no number or has stayed at chance for long.

    At chance is a moving average of the loss (over about 50 steps) that is not 1 % below log(classes), the loss of whoever
    calls all classes equally probable.
    """
    lower = f"with a learning_rate below {recipe.learning_rate:g}"
    if recipe.initial == "normal":
        lower += ', or with initial = "he" and deviation = 20.0'
    advice = f"try a recipe {lower}, in another --out"
    if not math.isfinite(loss):
        raise TrainingDiverged(f"The loss of step {step} is {loss}, so training has diverged: {advice}.")
    chance = math.log(classes)
    at.smooth = loss if step == 0 else 0.98 * at.smooth + 0.02 * loss
    at.at_chance = at.at_chance + 1 if at.smooth > 0.99 * chance else 0
    if at.at_chance >= recipe.steps_at_chance:
        raise TrainingDiverged(
            f"The loss has stayed at {at.smooth:.3f} for {at.at_chance} steps, no better than chance ({chance:.3f}): try "
            f"another --seed, or {advice.removeprefix('try ')}."
        )
