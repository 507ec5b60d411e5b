"""When to give up on a training run."""

import math

from deconvnet.errors import DeconvnetError
from deconvnet.training.checkpoint import TrainingProgress
from deconvnet.training.recipe import Recipe


class TrainingDiverged(DeconvnetError):
    """A run whose loss is not finite or stays at chance; resuming it would end the same way."""

    can_resume = False


def check_loss(loss: float, step: int, class_count: int, recipe: Recipe, progress: TrainingProgress) -> None:
    """Record a step's loss in `progress`.

    Raises `TrainingDiverged`, with advice, if the loss is not finite, or has been at chance for `recipe.chance_patience`
    steps: its moving average over about 50 steps is not 1 % below log(classes), the loss of a uniform prediction.
    """
    remedy = f"with a learning_rate below {recipe.learning_rate:g}"
    if recipe.init == "normal":
        remedy += ', or with initial = "he" and deviation = 20.0'
    advice = f"try a recipe {remedy}, in another --out"
    if not math.isfinite(loss):
        raise TrainingDiverged(f"The loss of step {step} is {loss}, so training has diverged: {advice}.")
    chance = math.log(class_count)
    progress.smoothed_loss = loss if step == 0 else 0.98 * progress.smoothed_loss + 0.02 * loss
    progress.steps_at_chance = progress.steps_at_chance + 1 if progress.smoothed_loss > 0.99 * chance else 0
    if progress.steps_at_chance >= recipe.chance_patience:
        raise TrainingDiverged(
            f"The loss has stayed at {progress.smoothed_loss:.3f} for {progress.steps_at_chance} steps, no better than "
            f"chance ({chance:.3f}): try another --seed, or {advice.removeprefix('try ')}."
        )
