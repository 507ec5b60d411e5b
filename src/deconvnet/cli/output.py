"""What the commands say, on terminals of all kinds."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from deconvnet.text import printable

if TYPE_CHECKING:
    from deconvnet.atlas import Atlas


def say(as_json: bool, result: dict[str, Any], *lines: str) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for line in lines:
        print_line(line, sys.stdout)


def print_line(line: str, to: TextIO) -> None:
    """Print one line that may name files, to a terminal that may not know all their letters."""
    encoding = to.encoding or "utf-8"
    print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=to)


def left_out(ignored: Sequence[str], skipped: Sequence[dict[str, str]], most: int = 5) -> list[str]:
    """What is said of the files in a folder of photos that are no photos, and of photos that could not be read."""
    lines = []
    if ignored:
        names = ", ".join(ignored[:most]) + (f" and {len(ignored) - most} more" if len(ignored) > most else "")
        lines.append(f"{len(ignored)} files are not photos by their name: {names}.")
    if skipped:
        lines.append(f"{len(skipped)} photos could not be read and were skipped:")
        lines += [f"  {photo['path']} {photo['reason']}" for photo in skipped]
    return lines


def print_atlas(as_json: bool, book: "Atlas") -> None:
    say(as_json, atlas_as_json(book), *describe_atlas(book))


def atlas_as_json(book: "Atlas") -> dict[str, Any]:
    return {"atlas": str(book.folder), **book.description}


def describe_atlas(book: "Atlas") -> list[str]:
    """What is said of a new atlas, line by line."""
    images = book.description["images"]
    wrote = (
        f"Wrote {book.folder}: {len(book.units):,} units over {images['read']:,} photos. Open {book.folder / 'index.html'}."
    )
    return [wrote, *left_out(images["ignored"], images["skipped"])]
