"""Printing results, as lines or as JSON, on any terminal."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from deconvnet.formatting import printable

if TYPE_CHECKING:
    from deconvnet.atlas import Atlas

#: Rounding of activations, relative to their values, that an atlas does not mention.
_SILENT_DIFFERENCE = 1e-5


def print_result(as_json: bool, result: dict[str, Any], *lines: str) -> None:
    """Print `result` as JSON if asked to, else `lines`."""
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for line in lines:
        print_line(line, sys.stdout)


def print_line(line: str, to: TextIO) -> None:
    """Print one line to `to`; characters that would control the terminal, or that it cannot show, are escaped."""
    encoding = to.encoding or "utf-8"
    print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=to)


def describe_skipped(ignored: Sequence[str], skipped: Sequence[dict[str, str]], max_named: int = 5) -> list[str]:
    """Lines that name ignored files (not images by their name) and skipped ones (images that could not be read)."""
    lines = []
    if ignored:
        more = f" and {len(ignored) - max_named} more" if len(ignored) > max_named else ""
        names = ", ".join(ignored[:max_named]) + more
        lines.append(f"{len(ignored)} files are not photos by their name: {names}.")
    if skipped:
        lines.append(f"{len(skipped)} photos could not be read and were skipped:")
        lines += [f"  {photo['path']} {photo['reason']}" for photo in skipped]
    return lines


def print_atlas(as_json: bool, result: "Atlas") -> None:
    """Report a new atlas."""
    print_result(as_json, atlas_as_json(result), *describe_atlas(result))


def atlas_as_json(result: "Atlas") -> dict[str, Any]:
    """Where an atlas lies, and its atlas.json."""
    return {"atlas": str(result.folder), **result.description}


def describe_atlas(result: "Atlas") -> list[str]:
    """Lines that report a new atlas."""
    images = result.description["images"]
    folder = result.folder
    wrote = f"Wrote {folder}: {len(result.units):,} units over {images['read']:,} photos. Open {folder / 'index.html'}."
    lines = [wrote, *describe_skipped(images["ignored"], images["skipped"])]
    difference = max((layer["largest_difference"] for layer in result.description["layers"]), default=0.0)
    if difference > _SILENT_DIFFERENCE:
        lines.append(f"This device rounds: computed again, activations differ by up to {difference:.0e} of their value.")
    return lines
