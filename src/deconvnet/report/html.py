"""The report's page: one HTML file, with the pictures that the commands have left beside it."""

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from deconvnet.progress import duration
from deconvnet.report.commands import Planned, Step
from deconvnet.report.comparison import (
    Table,
    findings,
    full_names,
    tables,
)
from deconvnet.report.paper_claims import LEFT_OUT, PARTS, Part
from deconvnet.storage import atomic_write

#: Pictures of a command, in the order of the figure that they belong to; others follow by name.
_ORDER = ("filters", "blocks", "measures")


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    file: str
    """Its address from the page."""
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Shown:
    """What the page shows of one command."""

    command: str
    failed: str = ""
    networks: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    findings: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    """Words and addresses of pages to browse."""
    seconds: float | None = None
    estimated: float | None = None
    made_with: str = ""
    """If another machine or other versions than those of most commands."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    part: Part
    state: str
    """done, in part, failed or not run."""
    shown: list[Shown]
    tables: list[Table]
    missing: list[str]
    waiting: list[str]
    """Commands that were not run."""
    why: str
    """And why not, if they are not to be."""
    seconds: float


def write_page(out: Path, record: dict[str, Any], parts: Sequence[Planned], only: Sequence[str] = ()) -> None:
    """Write `index.html` for the report in `out`, of which `record` says what has been run."""
    usual = _most([_made_with(entry) for entry in record["steps"].values()])
    sections = [_section(out, record, planned, only, usual) for planned in parts]
    folder = files("deconvnet.report") / "web"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(duration=duration, with_code=_with_code)
    page = environment.from_string((folder / "report.html").read_text(encoding="utf-8")).render(
        sections=sections,
        record=record,
        about=record["about"],
        usual=usual,
        seconds=sum(section.seconds for section in sections),
        left_out=LEFT_OUT,
        style=(folder / "report.css").read_text(encoding="utf-8"),
    )
    atomic_write(out / "index.html", page.encode(errors="replace"))


def _with_code(text: str) -> Markup:
    """Text in which commands stand between backticks."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _section(out: Path, record: dict[str, Any], planned: Planned, only: Sequence[str], usual: str) -> Section:
    part, networks = planned.part, record["about"]["networks"]
    shown, waiting, results = [], [], {}
    for step in planned.steps:
        entry = record["steps"].get(step.key, {})
        if "failed" in entry:
            shown.append(Shown(entry["command"], entry["failed"]))
            continue
        if not entry or not (out / step.result).exists():
            waiting.append(step.typed)
            continue
        try:
            result = _result(out, step)
            shown.append(_shown(out, step, entry, result, usual, networks))
        except (OSError, ValueError, KeyError) as error:
            shown.append(
                Shown(entry["command"], f"{step.result} is damaged ({error}): remove it, and run the same command again.")
            )
            continue
        if result is not None:
            results[step.name] = result
    incomplete = bool(waiting or planned.missing)
    state = "failed" if any(one.failed for one in shown) else "not run" if not shown else "in part" if incomplete else "done"
    seconds = sum(one.seconds or 0 for one in shown)
    layers = {network["full_name"].partition(" (")[0]: network["layers"] for network in networks.values()}
    why = "" if not only or part.id in only else " by --only"
    found = tables(part.id, results, layers if shown else None)
    return Section(part, state, shown, found, list(planned.missing), waiting, why, seconds)


def _shown(
    out: Path, step: Step, entry: dict[str, Any], result: Any, usual: str, networks: dict[str, dict[str, Any]]
) -> Shown:
    folder = out / step.result.parent
    pictures, links = [], []
    if step.result.suffix == ".png":
        pictures = [out / step.result]
    elif not step.to and step.part != "training" and result is not None:
        pictures = sorted(folder.glob("*.png"), key=_place)
        if (folder / "index.html").exists():
            links.append((f"Browse the units of {step.name}", f"{step.result.parent.as_posix()}/index.html"))
            pictures = [picture for picture in pictures if picture.stem.startswith("figure-")]
    made = _made_with(entry)
    names = full_names(result) or ([networks[step.name]["full_name"]] if pictures and step.name in networks else [])
    place = next(part.place for part in PARTS if part.id == step.part)
    return Shown(
        command=entry["command"],
        networks=names,
        pictures=[
            _picture(out, file, f"{place}: {file.stem.replace('figure-', '')}, {' · '.join(names)}") for file in pictures
        ],
        findings=findings(result),
        links=links,
        seconds=entry.get("seconds"),
        estimated=entry.get("estimated"),
        made_with="" if made == usual else made,
    )


def _place(file: Path) -> tuple[int, str]:
    return (_ORDER.index(file.stem) if file.stem in _ORDER else len(_ORDER), file.name)


def _picture(out: Path, file: Path, alt: str) -> Picture:
    with Image.open(file) as opened:
        return Picture(file.relative_to(out).as_posix(), *opened.size, alt)


def _result(out: Path, step: Step) -> Any:
    """What a command wrote as JSON; None if that is a picture."""
    file = out / "runs" / "ablation.json" if step.part == "training" else out / step.result
    return json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else None


def _made_with(entry: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in entry["versions"].items())
    return f"{entry['hardware']}; {packages}"


def _most(found: list[str]) -> str:
    return max(found, key=found.count) if found else platform.machine()
