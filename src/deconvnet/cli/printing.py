"""What the commands say, on terminals of all kinds."""

import json
import sys
from typing import Any, TextIO

from deconvnet.names import printable


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
