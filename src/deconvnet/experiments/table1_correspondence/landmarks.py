"""Read a file of landmarks: where the parts of an object are in images."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.errors import DeconvnetError

#: (x, y), from the upper left corner.
Point = tuple[float, float]

_COLUMNS = ("image", "part", "x", "y")

#: Larger files are not read.
_MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class Landmarks:
    """The parts of the object in one image, in pixels of that image."""

    parts: dict[str, Point]
    """Centre of each part."""
    size: tuple[int, int] | None = None
    """Width and height of the image, if the file states them."""


def read_landmarks(file: Path) -> dict[str, Landmarks]:
    """The landmarks of each image, by its path relative to the folder of images.

    JSON: `{"cat.jpg": {"left_eye": [175, 160], "nose": [199, 180], "size": [375, 500]}, …}`, where `size` is optional. CSV:
    the columns image, part, x, y, and a row for each part. All images have the same parts.

    Raises `DeconvnetError`, which says what is wrong and where, for anything else.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise DeconvnetError(f"{file} has {file.stat().st_size:,} bytes: that is no file of landmarks.")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be read ({error.strerror or error}): pass a JSON or CSV file.") from None
    except UnicodeDecodeError:
        raise DeconvnetError(f"{file} is no text: pass a JSON or CSV file of landmarks.") from None
    landmarks_by_path = _parse_csv(file, text) if file.suffix.lower() == ".csv" else _parse_json(file, text)
    if not landmarks_by_path:
        raise DeconvnetError(f"{file} names no photo.")
    first_path, first_landmarks = next(iter(landmarks_by_path.items()))
    for path, landmarks in landmarks_by_path.items():
        if landmarks.parts.keys() != first_landmarks.parts.keys():
            raise DeconvnetError(
                f"{file}: {path} has the parts {_join_sorted(landmarks.parts)}, but {first_path} has "
                f"{_join_sorted(first_landmarks.parts)}: every photo needs the same."
            )
    return landmarks_by_path


def _parse_json(file: Path, text: str) -> dict[str, Landmarks]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _dict_without_duplicates(file, pairs))
    except (ValueError, RecursionError) as error:
        raise DeconvnetError(f"{file} is not JSON ({error}); if it is CSV, call it .csv.") from None
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise DeconvnetError(f'{file} should be {{"photo.jpg": {{"part": [x, y], …}}, …}}.')
    landmarks_by_path = {}
    for path, entry in content.items():
        parts = {name: _parse_point(file, path, name, value) for name, value in entry.items()}
        size = parts.pop("size", None)
        if not parts:
            raise DeconvnetError(f"{file}: {path} has no part.")
        landmarks_by_path[path] = Landmarks(parts, None if size is None else (round(size[0]), round(size[1])))
    return landmarks_by_path


def _parse_csv(file: Path, text: str) -> dict[str, Landmarks]:
    try:
        reader = csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        rows = list(reader)
    except csv.Error as error:
        raise DeconvnetError(f"{file} is not CSV ({error}).") from None
    if sorted(header) != sorted(_COLUMNS):
        raise DeconvnetError(
            f"{file}, line 1: the columns should be {','.join(_COLUMNS)}, but are {','.join(header) or 'none'}."
        )
    parts_by_path: dict[str, dict[str, Point]] = {}
    for line, row in enumerate(rows, start=2):
        if row.get(None):
            raise DeconvnetError(f"{file}, line {line}, has too many columns: they are {','.join(_COLUMNS)}.")
        missing = [name for name in _COLUMNS if not row.get(name)]
        if missing:
            raise DeconvnetError(f"{file}, line {line}, has no {missing[0]}: the columns are {','.join(_COLUMNS)}.")
        parts = parts_by_path.setdefault(row["image"], {})
        if row["part"] in parts:
            raise DeconvnetError(f"{file}, line {line}: {row['image']} has its {row['part']} twice.")
        parts[row["part"]] = _parse_point(file, row["image"], row["part"], [row["x"], row["y"]])
    return {path: Landmarks(parts) for path, parts in parts_by_path.items()}


def _parse_point(file: Path, path: str, name: str, value: Any) -> Point:
    try:
        x, y = (float(number) for number in value if isinstance(value, list))
        if abs(x) < 1e6 and abs(y) < 1e6:  # false for infinity and NaN
            return x, y
    except (TypeError, ValueError):
        pass
    raise DeconvnetError(f"{file}: {name} of {path} is {value!r}, but should be two numbers, x and y in pixels.")


def _dict_without_duplicates(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`dict(pairs)`; raises `DeconvnetError` for a duplicate key, of which `json` would silently keep the last."""
    result = dict(pairs)
    if len(result) < len(pairs):
        name = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise DeconvnetError(f"{file} has {name} twice.")
    return result


def _join_sorted(parts: Mapping[str, Point]) -> str:
    return ", ".join(sorted(parts))
