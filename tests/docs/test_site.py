"""The docs as a site: it builds without a warning, and every link, picture and piece of code in it is right."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import deconvnet

ROOT = Path(__file__).parents[2]

#: An inline link or picture of Markdown: what is between its parentheses.
LINK = re.compile(r"\]\(([^()\s]+)\)")
#: A block of Python, of which each of the pages that is run has one.
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

PAGES = sorted(file.relative_to(ROOT).as_posix() for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


class Page(HTMLParser):
    """The addresses that a page names, by the kind of element that names them, and the places that can be named in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.named: list[tuple[str, str]] = []
        self.places: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src", "poster", "data") and value is not None:
                self.named.append((tag, value))
            if name in ("id", "name") and value:
                self.places.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs NOTEBOOKS=off` builds it: the notebook is shown and not run."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(ROOT / "docs"), str(out)]
    environment = {**os.environ, "NOTEBOOKS": "off", "PYTHONPATH": str(Path(deconvnet.__file__).parents[1])}
    done = subprocess.run(build, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_every_link_and_picture_is_there(site):
    pages = {file: Page(file) for file in site.rglob("*.html")}
    assert {"index.html", "start.html", "ideas.html", "python.html", "deconvnet.html"} <= {file.name for file in pages}
    missing, followed = [], 0
    for file, page in pages.items():
        for _, address in page.named:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            if not target.is_file():
                missing.append(f"{file.name}: {address}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                missing.append(f"{file.name}: {address} (no such place)")
    assert followed > 1000
    assert not missing


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site):
    """Links lead elsewhere only if somebody follows them."""
    for file in site.rglob("*.html"):
        outside = [value for tag, value in Page(file).named if tag != "a" and urlsplit(value).netloc]
        assert not outside, file
    for file in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", file.read_text(encoding="utf-8")), file


@pytest.mark.slow
def test_docstrings_come_out_whole(site):
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert "problematic" not in text, file
        assert "system-message" not in text, file


@pytest.mark.slow
def test_every_name_of_the_package_is_documented(site):
    places = Page(site / "python.html").places
    assert {f"deconvnet.{name}" for name in deconvnet.__all__} <= places
    assert all(getattr(deconvnet, name).__doc__ for name in deconvnet.__all__)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_on_github_too(page):
    """There the pages are read as they lie in the repository."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text)) if not urlsplit(link).scheme]
    missing = []
    for link in links:
        path, _, place = link.partition("#")
        target = (ROOT / page).parent / unquote(path) if path else ROOT / page
        if not target.exists() or (place and target.suffix == ".md" and place not in headings(target)):
            missing.append(link)
    assert not missing


def headings(page: Path) -> set[str]:
    """The addresses that GitHub gives to the headings of a page, and those that the page gives itself."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    shown = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in shown}


def test_the_check_that_a_reader_can_do(capsys):
    """The code of docs/deconvnet.md prints what the page says: nothing but rounding for the paper's rules."""
    text = (ROOT / "docs" / "deconvnet.md").read_text(encoding="utf-8")
    exec(PYTHON.search(text)[1], {})
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    said = dict(line.split() for line in re.search(r"```text\n(deconvnet .*?)```", text, re.DOTALL)[1].splitlines())
    assert float(printed.pop("deconvnet")) < 1e-6
    assert float(said.pop("deconvnet")) < 1e-6
    assert {rules: float(value) for rules, value in printed.items()} == pytest.approx(
        {rules: float(value) for rules, value in said.items()}, rel=1e-4
    )


def test_a_shared_switch_adds(capsys):
    """The code of docs/ideas.md prints what the page says."""
    exec(PYTHON.search((ROOT / "docs" / "ideas.md").read_text(encoding="utf-8"))[1], {})
    assert capsys.readouterr().out == "tensor(10.) tensor(4.)\n"
