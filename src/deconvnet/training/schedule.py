"""How the learning rate changes."""

import math
from dataclasses import dataclass
from typing import Any, Self

from deconvnet.training.recipe import Recipe

#: How often a plateau may divide the learning rate by ten.
MOST_DROPS = 3


@dataclass(frozen=True)
class Plateau:
    """Stands in for the hand that annealed the learning rate "when the validation error plateaus" (section 3)."""

    best: float = math.inf
    """The lowest validation error so far."""
    waited: int = 0
    """Epochs since then, or since the last drop."""
    drops: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they stand in a checkpoint."""
        return {"best": self.best, "waited": self.waited, "drops": self.drops}

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(best=entries["best"], waited=entries["waited"], drops=entries["drops"])

    def after(self, error: float, patience: int) -> Self:
        """The state after another epoch with this validation error."""
        if error < self.best:
            return type(self)(error, 0, self.drops)
        if self.waited + 1 < patience or self.drops == MOST_DROPS:
            return type(self)(self.best, self.waited + 1, self.drops)
        return type(self)(self.best, 0, self.drops + 1)


def learning_rate(recipe: Recipe, plateau: Plateau, step: int, steps: int) -> float:
    """The learning rate of step number `step` (from 0) of `steps`."""
    if recipe.schedule == "plateau":
        return recipe.learning_rate / 10**plateau.drops
    rise = recipe.warm_up * steps
    if step < rise:
        return recipe.learning_rate * (step + 1) / (math.floor(rise) + 1)
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2
