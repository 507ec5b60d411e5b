"""A recipe, a small TOML file: everything that decides how a network is trained except network, data and seed."""

import json
import reprlib
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from deconvnet.environment import memory_format
from deconvnet.errors import UsageError
from deconvnet.tracing import float32_precision

#: The entries of a recipe file that are named otherwise than the fields of `Recipe`.
_ENTRY_NAMES = {
    "init": "initial",
    "input_std": "deviation",
    "max_filter_rms": "largest_rms",
    "chance_patience": "steps_at_chance",
}


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Recipe:
    """The entries of a recipe file. `recipes/paper.toml` has the paper's values, `recipes/fast.toml` more recent ones.

    In files four fields have other names: `initial` (`init`), `deviation` (`input_std`), `largest_rms` (`max_filter_rms`)
    and `steps_at_chance` (`chance_patience`). Raises `UsageError` for values of the wrong type or out of range.
    """

    epochs: int = Field(ge=1, le=10**6)
    batch_size: int = Field(ge=1, le=10**6)
    """Total over all processes."""
    learning_rate: float = Field(ge=1e-12, le=1e6)
    schedule: Literal["plateau", "one-cycle"] = "plateau"
    """plateau: ÷10 when the validation error has not fallen for `patience` epochs, at most three times. one-cycle: linear
    warm-up over the fraction `warm_up` of all steps, then down to 0 along a cosine."""
    patience: int = Field(default=5, ge=1, le=10**6)
    warm_up: float = Field(default=0.15, ge=0, le=1)
    momentum: float = Field(default=0.9, ge=0, le=0.9999)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    """Of weights; biases do not decay."""
    dropout: float = Field(default=0.5, ge=0, le=0.99)
    label_smoothing: float = Field(default=0.0, ge=0, le=0.99)
    init: Literal["normal", "he"] = "normal"
    """normal: N(0, 0.01²); he: N(0, 2 / fan in), except for the first and the last layer. Biases are 0."""
    input_std: float = Field(default=1.0, ge=1e-3, le=1e6)
    """Inputs are pixels from 0 to 255, minus the mean image, divided by this."""
    max_filter_rms: float = Field(default=0.1, ge=0, le=1e6)
    """Convolutional filters whose root mean square exceeds it are scaled back to it; 0: they are not."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of convolutions and matrix products, in training and validation; weights, normalisation and loss are always float32.
    tf32 lets a GPU round what it multiplies to 10 bits; elsewhere it is float32."""
    channels_last: bool = False
    """The memory layout on a GPU. On a CPU it is always channels last, which is faster there."""
    compile: bool = False
    """Use `torch.compile`."""
    chance_patience: int = Field(default=5000, ge=1, le=10**12)
    """Training stops with advice after so many steps with a loss no better than chance."""
    network: Mapping[str, Any] = Field(default_factory=dict, description="a table of options, under [network]")
    """Options of the network that differ from its defaults, such as `hidden`."""

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, arguments: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise an error of ours in place of pydantic's."""
        try:
            return validate(arguments)
        except ValidationError as error:
            raise UsageError(_first_problem(error)) from None

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """The memory layout of weights and inputs on a device."""
        return torch.channels_last if self.channels_last else memory_format(device)

    def autocast(self, device: torch.device) -> torch.autocast:
        """A context in which convolutions and matrix products are computed in bfloat16 if that is the recipe's precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def float32_precision(self, device: torch.device) -> AbstractContextManager[None]:
        """A context in which those that stay in float32 are computed in TF32 if the recipe says so, otherwise in full."""
        return float32_precision("tf32" if self.precision == "tf32" and device.type == "cuda" else "ieee")

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any], source: str = "The recipe") -> Self:
        """The recipe with a file's entries; `source` names the file in errors.

        Raises `UsageError` for an entry that is unknown, missing, of the wrong type or out of range.
        """
        fields_by_entry = {entry: field for field, entry in _entries_by_field().items()}
        try:
            if unknown := [entry for entry in entries if entry not in fields_by_entry]:
                raise UsageError(_unknown_entry(unknown[0]))
            return cls(**{fields_by_entry[entry]: value for entry, value in entries.items()})
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None

    def entries(self) -> dict[str, Any]:
        """Plain values by entry, the inverse of `from_entries`."""
        values = asdict(self)
        return {entry: values[field] for field, entry in _entries_by_field().items()}


#: The names of the bundled recipes.
RECIPES = ("paper", "fast")


def _entries_by_field() -> dict[str, str]:
    """The names of the entries of a file by those of the fields of `Recipe`."""
    return {field.name: _ENTRY_NAMES.get(field.name, field.name) for field in fields(Recipe)}


def _unknown_entry(entry: str) -> str:
    return f"A recipe has no entry {reprlib.repr(entry)}: there are {', '.join(_entries_by_field().values())}."


def _first_problem(error: ValidationError) -> str:
    """The first problem that pydantic finds, in one sentence that names the entry and says what it may be."""
    entries, schema = _entries_by_field(), TypeAdapter(Recipe).json_schema()
    problem = error.errors(include_url=False)[0]
    field, kind = problem["loc"][0], problem["type"]
    if kind == "unexpected_positional_argument":
        return f"A recipe has {len(entries)} entries, not more."
    if isinstance(field, int):  # the index of a positional argument
        field = list(entries)[field]
    if kind == "unexpected_keyword_argument":
        return _unknown_entry(field)
    if kind == "multiple_argument_values":
        return f"A recipe has the entry {entries[field]!r} twice."
    if kind == "missing":
        return f"A recipe lacks the entry {entries[field]!r}: it needs {', '.join(schema['required'])}."
    return f"A recipe has {entries[field]} = {_shown(problem['input'])}: it is {_expected(schema['properties'][field])}."


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not write out numbers of more than 4,300 digits
        return "a number of thousands of digits"


#: Types of a JSON schema, in words.
_NOUNS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def _expected(schema: dict[str, Any]) -> str:
    """What an entry with this JSON schema may be."""
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return " or ".join(map(json.dumps, schema["enum"]))
    limits = f" from {schema['minimum']:g} to {schema['maximum']:g}" if "maximum" in schema else ""
    return _NOUNS[schema["type"]] + limits


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
    except (ValueError, RecursionError) as error:  # of TOML, of numbers of thousands of digits, of tables in tables in …
        raise UsageError(f"{recipe} is not a TOML file: {error}.") from None
    return Recipe.from_entries(entries, str(recipe))
