"""docs/architecture.md shows the source as it is."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from networks_table import table  # noqa: E402
from source_tree import tree  # noqa: E402


def test_architecture_shows_every_folder_and_file():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = text.partition("```text\ndeconvnet/")[2].partition("```")[0]
    assert f"deconvnet/{shown}".splitlines() == tree(), "python docs/source_tree.py prints what should stand there"


def test_no_file_is_long():
    """What is longer holds two ideas."""
    files = (ROOT / "src").rglob("*.py")
    assert {file.name for file in files if len(file.read_text(encoding="utf-8").splitlines()) > 400} == set()


def test_the_table_of_networks_is_what_tracing_finds():
    file = ROOT / "src" / "deconvnet" / "cli" / "networks.json"
    assert file.read_text(encoding="utf-8") == f"{table()}\n", f"python docs/networks_table.py > {file.relative_to(ROOT)}"
