"""Every command has a page that is listed, and every page says what its command takes from the command itself."""

import re

import pytest
import typer

from deconvnet.cli.app import app
from helpers.shown_code import ROOT, shown_on

FOLDER = ROOT / "docs" / "commands"
COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_page(name):
    page = FOLDER / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# (deconvnet )?{name}\n", text)
    assert text.endswith(f"```{{command-options}} {name}\n```\n")
    assert any(shown.text.startswith(f"deconvnet {name}") for shown in shown_on(page)), "no example"
    if name != "reproduce":  # which has nothing but commands
        assert any(shown.language == "python" for shown in shown_on(page)), "no Python"


def test_the_index_lists_each_page_once():
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    in_table = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \|", text, re.MULTILINE)
    in_tree = re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)\n```", text, re.DOTALL)[1].split()
    assert [name for name, _ in in_table] == [name for _, name in in_table] == in_tree
    assert len(in_tree) == len(set(in_tree))
    assert set(COMMANDS) <= set(in_tree)


def test_pages_are_of_commands():
    assert {page.stem for page in FOLDER.glob("*.md")} - {"index"} <= {*COMMANDS, "reproduce"}


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """To a file, and where a heading is named, to one of its headings."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in target or path == "reproduce.md":  # another site; a page that is written beside these
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        assert not heading or heading in _headings(file.read_text(encoding="utf-8")), target


def _headings(text: str) -> set[str]:
    """What Markdown calls a page's headings in addresses."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
