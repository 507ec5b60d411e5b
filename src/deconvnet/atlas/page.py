"""The page that opens an atlas in a browser, from disk: every picture, layer by layer."""

import html
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 1rem auto; max-width: 90rem; padding: 0 1rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .5rem 0; display: flex; gap: 1rem; flex-wrap: wrap; }
img { max-width: 100%; height: auto; }
.units { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); gap: .5rem; }
.units a:target { outline: 3px solid Highlight; }
</style>
<h1>$title</h1>
<p>$about</p>
<nav aria-label="Layers">$links</nav>
$sections
</html>
""")


def write_page(folder: Path, description: dict[str, Any], units: dict[str, list[int]]) -> None:
    """Write index.html into the atlas in `folder`; a unit's address is `#conv5/12`."""
    network, photos = html.escape(description["network"]["full_name"]), description["images"]
    links = [f'<a href="#{quote(name)}">{html.escape(name)}</a>' for name in units]
    sections = [_section(name, chosen) for name, chosen in units.items()]
    if (folder / "filters.png").exists():
        sections.insert(0, '<p><img src="filters.png" alt="All filters of the first layer"></p>')
    page = _PAGE.substitute(
        title=f"Atlas of {network}",
        about=f"Each unit's {description['top']} strongest activations among {photos['read']:,} photos: projections to "
        "pixel space on the left, the patches they come from on the right.",
        links="\n".join(links),
        sections="\n".join(sections),
    )
    (folder / "index.html").write_text(page, encoding="utf-8", errors="surrogateescape")


def _section(layer: str, units: list[int]) -> str:
    address, name = quote(layer), html.escape(layer)  # a name such as relu#1 has a meaning of its own in addresses
    pictures = "\n".join(
        f'<a id="{name}/{unit}" href="{address}/{unit:04d}.webp">'
        f'<img loading="lazy" src="{address}/{unit:04d}.webp" alt="{name} unit {unit}: projections and patches"></a>'
        for unit in units
    )
    return (
        f'<h2 id="{name}">{name}</h2>\n'
        f'<p><img loading="lazy" src="figure-{address}.png" alt="Random units of {name}"></p>\n'
        f'<details open><summary>{len(units)} units</summary><div class="units">\n{pictures}\n</div></details>'
    )
