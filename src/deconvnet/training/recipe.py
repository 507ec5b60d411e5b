"""A recipe, a small TOML file: everything that decides how a network is trained except network, data and seed."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from deconvnet.errors import UsageError

Schedule = Literal["plateau", "one-cycle"]
Init = Literal["normal", "he"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """The entries of a recipe file. `recipes/paper.toml` has the paper's values, `recipes/fast.toml` more recent ones.

    In files four fields have other names: `initial` (`init`), `deviation` (`input_std`), `largest_rms` (`max_filter_rms`)
    and `steps_at_chance` (`chance_patience`). Raises `UsageError` for values of the wrong type or out of range.
    """

    epochs: int
    batch_size: int
    """Total over all processes."""
    learning_rate: float
    schedule: Schedule = "plateau"
    """plateau: ÷10 when the validation error has not fallen for `patience` epochs, at most three times. one-cycle: linear
    warm-up over the fraction `warm_up` of all steps, then down to 0 along a cosine."""
    patience: int = 5
    warm_up: float = 0.15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Of weights; biases do not decay."""
    dropout: float = 0.5
    label_smoothing: float = 0.0
    init: Init = "normal"
    """normal: N(0, 0.01²); he: N(0, 2 / fan in), except for the first and the last layer. Biases are 0."""
    input_std: float = 1.0
    """Inputs are pixels from 0 to 255, minus the mean image, divided by this."""
    max_filter_rms: float = 0.1
    """Convolutional filters whose root mean square exceeds it are scaled back to it; 0: they are not."""
    precision: Precision = "float32"
    """Of convolutions and matrix products; weights, normalisation and loss are always float32."""
    channels_last: bool = False
    compile: bool = False
    """Use `torch.compile`."""
    chance_patience: int = 5000
    """Training stops with advice after so many steps with a loss no better than chance."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options of the network that differ from its defaults, such as `hidden`."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value of the wrong type or out of range."""
        for entry, recipe_field in _fields_by_entry().items():
            value, number_type = getattr(self, recipe_field.name), recipe_field.type
            if entry in _CHOICES:
                if value not in _CHOICES[entry]:
                    choices = " or ".join(f'"{choice}"' for choice in _CHOICES[entry])
                    raise UsageError(f"A recipe has {entry} = {value!r}: it is {choices}.")
            elif number_type is int or number_type is float:
                low, high = _LIMITS[entry]
                is_number = isinstance(value, int) or (number_type is float and isinstance(value, float))
                if not is_number or isinstance(value, bool) or not low <= value <= high:
                    noun = "a whole number" if number_type is int else "a number"
                    raise UsageError(f"A recipe has {entry} = {value!r}: it is {noun} from {low:g} to {high:g}.")
            elif recipe_field.type is bool and not isinstance(value, bool):
                raise UsageError(f"A recipe has {entry} = {value!r}: it is true or false.")
        if not isinstance(self.network, Mapping):
            raise UsageError(f"A recipe has network = {self.network!r}: it is a table of options, under [network].")

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory layout of weights and inputs."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        """A context in which convolutions and matrix products have the recipe's precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any], source: str = "The recipe") -> Self:
        """The recipe with a file's entries; `source` names the file in errors.

        Raises `UsageError` for an entry that is unknown, missing, of the wrong type or out of range.
        """
        known = _fields_by_entry()
        unknown = [entry for entry in entries if entry not in known]
        if unknown:
            raise UsageError(f"{source} has an unknown entry {unknown[0]!r}: there are {', '.join(known)}.")
        required = [
            entry
            for entry, recipe_field in known.items()
            if recipe_field.default is MISSING and recipe_field.default_factory is MISSING
        ]
        missing = [entry for entry in required if entry not in entries]
        if missing:
            raise UsageError(f"{source} lacks the entry {missing[0]!r}: it needs {', '.join(required)}.")
        try:
            return cls(**{known[entry].name: value for entry, value in entries.items()})
        except UsageError as error:
            raise UsageError(f"{source} cannot be used. {error}") from None

    def entries(self) -> dict[str, Any]:
        """Plain values by entry, the inverse of `from_entries`."""
        values = asdict(self)
        return {entry: values[recipe_field.name] for entry, recipe_field in _fields_by_entry().items()}


#: Names of fields in recipe files and wherever a recipe is stored, where they differ from the field's name.
_ENTRY_NAMES: Mapping[str, str] = {
    "init": "initial",
    "input_std": "deviation",
    "max_filter_rms": "largest_rms",
    "chance_patience": "steps_at_chance",
}

#: By entry: the values that are allowed.
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule),
    "initial": get_args(Init),
    "precision": get_args(Precision),
}

#: By entry: the least and the largest number that is allowed.
_LIMITS: Mapping[str, tuple[float, float]] = {
    "epochs": (1, 1e6),
    "batch_size": (1, 1e6),
    "learning_rate": (1e-12, 1e6),
    "patience": (1, 1e6),
    "warm_up": (0, 1),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "dropout": (0, 0.99),
    "label_smoothing": (0, 0.99),
    "deviation": (1e-3, 1e6),
    "largest_rms": (0, 1e6),
    "steps_at_chance": (1, 1e12),
}

#: The names of the bundled recipes.
RECIPES = ("paper", "fast")


def _fields_by_entry() -> "dict[str, Field[Any]]":
    """The fields of `Recipe` by their names in files."""
    return {_ENTRY_NAMES.get(recipe_field.name, recipe_field.name): recipe_field for recipe_field in fields(Recipe)}


def read_recipe(recipe: str | Path) -> Recipe:
    """Read a bundled recipe, by name, or a TOML file.

    Raises `UsageError` if there is no such recipe or file, or if the file is no recipe.
    """
    if str(recipe) in RECIPES:
        text = (files("deconvnet.training") / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(recipe).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{recipe} is not a TOML file: {error}.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"There is no recipe {str(recipe)!r} ({reason}): pass {' or '.join(RECIPES)}, or a TOML file."
            ) from None
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{recipe} is not a TOML file: {error}.") from None
    return Recipe.from_entries(entries, str(recipe))
