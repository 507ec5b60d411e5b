"""README, CONTRIBUTING and CHANGELOG lie above docs/, where everybody looks for them, and are pages of the site as well.

They are included in pages here, and their links, which are relative to the root, are turned round on the way; so are links
to them from other pages. On GitHub the links are right as they are.
"""

import re
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

#: The page that each of them is included in.
PAGES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

LINK = re.compile(r"(\]\()([^()\s#:]+)(?=[)#])")


def in_root(link: str) -> str:
    """What a link of a file in the root is from a page of docs/."""
    return PAGES.get(link) or (link.removeprefix("docs/") if link.startswith("docs/") else f"../{link}")


def turn_included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    if path.parent == Path(".."):  # it is told from docs/
        content[0] = LINK.sub(lambda found: found[1] + in_root(found[2]), content[0])


def turn_links_up(app: Sphinx, page: str, content: list[str]) -> None:
    up = "../" * len(PurePosixPath(page).parts)

    def turned(found: re.Match[str]) -> str:
        name = found[2].removeprefix(up)
        return found[1] + (up[3:] + PAGES[name] if found[2] == up + name and name in PAGES else found[2])

    if not page.endswith(".ipynb"):
        content[0] = LINK.sub(turned, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("include-read", turn_included)
    app.connect("source-read", turn_links_up)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
