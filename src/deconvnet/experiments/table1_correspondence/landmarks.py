"""Where the parts of an object are in photos, as a file says."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.errors import DeconvnetError

Point = tuple[float, float]

_COLUMNS = ("image", "part", "x", "y")

#: A file with more bytes than this is no file of landmarks.
_LARGEST = 64_000_000


@dataclass(frozen=True)
class Landmarks:
    """The parts of one photo's object, in its pixels."""

    parts: dict[str, Point]
    """(x, y) of each part's centre, from the upper left corner."""
    size: tuple[int, int] | None = None
    """Width and height of the photo that these are pixels of, if the file says so."""


def read_landmarks(file: Path) -> dict[str, Landmarks]:
    """The landmarks of each photo, by its path relative to the folder of photos.

    JSON: `{"cat.jpg": {"left_eye": [175, 160], "nose": [199, 180], "size": [375, 500]}, …}`, `size` being optional. CSV: the
    columns image, part, x, y, a row for each part. Every photo has the same parts.

    Raises `DeconvnetError` with what is wrong and where.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise DeconvnetError(f"{file} has {file.stat().st_size:,} bytes: that is no file of landmarks.")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be read ({error.strerror or error}): pass a JSON or CSV file.") from None
    except UnicodeDecodeError:
        raise DeconvnetError(f"{file} is no text: pass a JSON or CSV file of landmarks.") from None
    found = _from_csv(file, text) if file.suffix.lower() == ".csv" else _from_json(file, text)
    if not found:
        raise DeconvnetError(f"{file} names no photo.")
    first, names = next((photo, set(landmarks.parts)) for photo, landmarks in found.items())
    for photo, landmarks in found.items():
        if set(landmarks.parts) != names:
            raise DeconvnetError(
                f"{file}: {photo} has the parts {_listed(landmarks.parts)}, but {first} has {_listed(names)}: every photo "
                "needs the same."
            )
    return found


def _from_json(file: Path, text: str) -> dict[str, Landmarks]:
    try:
        whole = json.loads(text, object_pairs_hook=lambda pairs: _once(file, pairs))
    except (ValueError, RecursionError) as error:
        raise DeconvnetError(f"{file} is not JSON ({error}); if it is CSV, call it .csv.") from None
    if not isinstance(whole, dict) or not all(isinstance(entry, dict) for entry in whole.values()):
        raise DeconvnetError(f'{file} should be {{"photo.jpg": {{"part": [x, y], …}}, …}}.')
    found = {}
    for photo, entry in whole.items():
        pairs = {name: _pair(file, photo, name, value) for name, value in entry.items()}
        size = pairs.pop("size", None)
        found[photo] = Landmarks(_some(file, photo, pairs), None if size is None else (round(size[0]), round(size[1])))
    return found


def _from_csv(file: Path, text: str) -> dict[str, Landmarks]:
    try:
        table = csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True)
        header = [name.strip() for name in table.fieldnames or []]
        table.fieldnames = header
        rows = list(table)
    except csv.Error as error:
        raise DeconvnetError(f"{file} is not CSV ({error}).") from None
    if sorted(header) != sorted(_COLUMNS):
        raise DeconvnetError(
            f"{file}, line 1: the columns should be {','.join(_COLUMNS)}, but are {','.join(header) or 'none'}."
        )
    parts: dict[str, dict[str, Point]] = {}
    for number, row in enumerate(rows, start=2):
        if row.get(None):
            raise DeconvnetError(f"{file}, line {number}, has too many columns: they are {','.join(_COLUMNS)}.")
        missing = [name for name in _COLUMNS if not row.get(name)]
        if missing:
            raise DeconvnetError(f"{file}, line {number}, has no {missing[0]}: the columns are {','.join(_COLUMNS)}.")
        here = parts.setdefault(row["image"], {})
        if row["part"] in here:
            raise DeconvnetError(f"{file}, line {number}: {row['image']} has its {row['part']} twice.")
        here[row["part"]] = _pair(file, row["image"], row["part"], [row["x"], row["y"]])
    return {photo: Landmarks(_some(file, photo, points)) for photo, points in parts.items()}


def _pair(file: Path, photo: str, name: str, value: Any) -> Point:
    try:
        x, y = (float(number) for number in value if isinstance(value, list))
        if abs(x) < 1e6 and abs(y) < 1e6:  # no infinity, and NaN is not below anything
            return x, y
    except (TypeError, ValueError):
        pass
    raise DeconvnetError(f"{file}: {name} of {photo} is {value!r}, but should be two numbers, x and y in pixels.")


def _once(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What stands in the file twice would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise DeconvnetError(f"{file} has {name} twice.")
    return found


def _some(file: Path, photo: str, points: dict[str, Point]) -> dict[str, Point]:
    if not points:
        raise DeconvnetError(f"{file}: {photo} has no part.")
    return points


def _listed(names: Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(names))
