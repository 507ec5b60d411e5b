"""What autodoc is told of this package's docstrings and signatures.

Code stands between single backticks, and names become links. A function's own parameters are no links: `images` of `mine`
is not the module of that name.
"""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import inspect

NAME = re.compile(r"(?<!`)`(\w+)`(?!`)")


def parameters_are_no_links(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    try:
        own = inspect.signature(subject).parameters if callable(subject) else ()
    except (TypeError, ValueError):  # something without a signature
        return
    lines[:] = [NAME.sub(lambda found: f"``{found[1]}``" if found[1] in own else found[0], line) for line in lines]


def defaults_are_code(
    app: Sphinx, what: str, name: str, subject: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A dataclass's `<factory>` is no Python, so Sphinx would set the whole signature as it came."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", parameters_are_no_links)
    app.connect("autodoc-process-signature", defaults_are_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
