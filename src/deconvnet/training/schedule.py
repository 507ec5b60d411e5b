"""Learning rate schedules."""

import math
from dataclasses import dataclass
from typing import Any, Self

from deconvnet.training.recipe import Recipe

#: How often the plateau schedule may divide the learning rate by ten.
MAX_DROPS = 3


@dataclass(frozen=True)
class Plateau:
    """State of the plateau schedule, in place of annealing by hand "when the validation error plateaus" (section 3)."""

    best: float = math.inf
    """The lowest validation error so far."""
    epochs_waited: int = 0
    """Epochs since the lowest error or the last drop, whichever is later."""
    drops: int = 0
    """How often the learning rate was divided by ten."""

    def as_json(self) -> dict[str, Any]:
        """Plain values under the names they have in checkpoints."""
        return {"best": self.best, "waited": self.epochs_waited, "drops": self.drops}

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(best=entries["best"], epochs_waited=entries["waited"], drops=entries["drops"])

    def after_epoch(self, error: float, patience: int) -> Self:
        """The state after another epoch with this validation error."""
        if error < self.best:
            return type(self)(error, 0, self.drops)
        if self.epochs_waited + 1 < patience or self.drops == MAX_DROPS:
            return type(self)(self.best, self.epochs_waited + 1, self.drops)
        return type(self)(self.best, 0, self.drops + 1)


def learning_rate(recipe: Recipe, plateau: Plateau, step: int, total_steps: int) -> float:
    """The learning rate of step number `step` (from 0) of all `total_steps` of a run."""
    if recipe.schedule == "plateau":
        return recipe.learning_rate / 10**plateau.drops
    warm_up_steps = recipe.warm_up * total_steps
    if step < warm_up_steps:
        return recipe.learning_rate * (step + 1) / (math.floor(warm_up_steps) + 1)
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - warm_up_steps) / (total_steps - warm_up_steps))) / 2
