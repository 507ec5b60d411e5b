"""A recipe: all that decides how a network is trained but the network, the data and the seed. A small TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

from deconvnet.errors import UsageError

Schedule = Literal["plateau", "one-cycle"]
Initial = Literal["normal", "he"]
Precision = Literal["float32", "bfloat16"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule),
    "initial": get_args(Initial),
    "precision": get_args(Precision),
}


@dataclass(frozen=True)
class Recipe:
    """The fields of a recipe file. `recipes/paper.toml` gives the paper's values, `recipes/fast.toml` later ones."""

    epochs: int
    batch_size: int
    """Over all processes together."""
    learning_rate: float
    schedule: Schedule = "plateau"
    """plateau: ÷10 when the validation error has not fallen for `patience` epochs, at most three times. one-cycle: up in a
    straight line over `warm_up` of all steps, then down to 0 along a cosine."""
    patience: int = 5
    warm_up: float = 0.15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Of weights; biases have none."""
    dropout: float = 0.5
    label_smoothing: float = 0.0
    initial: Initial = "normal"
    """normal: N(0, 0.01²); he: N(0, 2 / fan in), but for the first and the last layer. Biases are 0."""
    deviation: float = 1.0
    """What pixels from 0 to 255, minus the mean image, are divided by."""
    largest_rms: float = 0.1
    """Filters of convolutional layers whose root mean square exceeds it are scaled back to it; 0 leaves them."""
    precision: Precision = "float32"
    """Of convolutions and matrix products; weights, normalisation and loss are float32 always."""
    channels_last: bool = False
    compile: bool = False
    """Use `torch.compile`."""
    steps_at_chance: int = 5000
    """Training stops with advice if the loss is no better than chance for so many steps."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options of the network that differ from its defaults, such as `hidden`."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for an entry that cannot be meant."""
        for name, entry in _entries().items():
            value = getattr(self, entry.name)
            if name in _CHOICES:
                if value not in _CHOICES[name]:
                    there = " or ".join(f'"{choice}"' for choice in _CHOICES[name])
                    raise UsageError(f"A recipe has {name} = {value!r}: it is {there}.")
            elif entry.type is int or entry.type is float:
                low, high = _LIMITS[name]
                number = isinstance(value, int) or (entry.type is float and isinstance(value, float))
                if not number or isinstance(value, bool) or not low <= value <= high:
                    kind = "a whole number" if entry.type is int else "a number"
                    raise UsageError(f"A recipe has {name} = {value!r}: it is {kind} from {low:g} to {high:g}.")
            elif entry.type is bool and not isinstance(value, bool):
                raise UsageError(f"A recipe has {name} = {value!r}: it is true or false.")
        if not isinstance(self.network, Mapping):
            raise UsageError(f"A recipe has network = {self.network!r}: it is a table of options, under [network].")

    @classmethod
    def of(cls, entries: Mapping[str, Any], source: str = "The recipe") -> Self:
        """A recipe of a file's entries. Raises `UsageError` for one that is unknown, missing or cannot be meant."""
        known = _entries()
        unknown = [name for name in entries if name not in known]
        if unknown:
            raise UsageError(f"{source} has an unknown entry {unknown[0]!r}: there are {', '.join(known)}.")
        needed = [name for name, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
        missing = [name for name in needed if name not in entries]
        if missing:
            raise UsageError(f"{source} lacks the entry {missing[0]!r}: it needs {', '.join(needed)}.")
        try:
            return cls(**{known[name].name: value for name, value in entries.items()})
        except UsageError as error:
            raise UsageError(f"{source} cannot be used. {error}") from None

    def entries(self) -> dict[str, Any]:
        """Plain values, for `of` to read."""
        values = asdict(self)
        return {name: values[entry.name] for name, entry in _entries().items()}


#: What a field is called in a recipe's file, and wherever a recipe is written down, if the code may call it otherwise.
_IN_FILES: Mapping[str, str] = {
    "initial": "initial",
    "deviation": "deviation",
    "largest_rms": "largest_rms",
    "steps_at_chance": "steps_at_chance",
}


def _entries() -> "dict[str, Field[Any]]":
    """A recipe's fields by the names that they have in files."""
    return {_IN_FILES.get(entry.name, entry.name): entry for entry in fields(Recipe)}


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

#: Recipes that come with the package.
RECIPES = ("paper", "fast")


def read_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe that comes with the package, by name, or a TOML file. Raises `UsageError` if there is none."""
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
    return Recipe.of(entries, str(recipe))
