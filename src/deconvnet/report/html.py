"""The report's page: one HTML file, which shows the pictures that the commands have written next to it."""

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from deconvnet.progress import duration
from deconvnet.report.commands import PlannedSection, ReportCommand
from deconvnet.report.paper_claims import NOT_REPRODUCED, ReportSection
from deconvnet.report.paper_vs_ours import Table, comparison_tables, network_names, result_findings
from deconvnet.storage import atomic_write

#: Stems of pictures that come first, in the order of the paper's figure; others follow by name.
_PICTURE_ORDER = ("filters", "blocks", "measures")


@dataclass(frozen=True)
class Picture:
    """A picture on the page; sizes in pixels."""

    path: str
    """Relative to the page."""
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class CommandEntry:
    """What the page shows of one command that was run."""

    command_line: str
    failure: str = ""
    """Why it failed; empty if it did not."""
    networks: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    findings: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    """Texts and URLs of pages to browse."""
    seconds: float | None = None
    estimated_seconds: float | None = None
    environment: str = ""
    """Hardware and versions, if they are not those of most commands."""


@dataclass(frozen=True)
class SectionContent:
    """What the page shows of one section."""

    section: ReportSection
    state: str
    """One of "done", "in part", "failed" or "not run"."""
    entries: list[CommandEntry]
    tables: list[Table]
    missing: list[str]
    """What cannot be shown, and why."""
    not_run: list[str]
    """Command lines that were not run."""
    excluded: bool
    """Whether `--only` leaves this section out."""
    seconds: float


def write_page(out: Path, record: dict[str, Any], sections: Sequence[PlannedSection], only: Sequence[str] = ()) -> None:
    """Write `index.html` for the report in `out`; `record`, the contents of `report.json`, says what has been run."""
    environments = [_environment(entry) for entry in record["steps"].values()]
    usual_environment = max(environments, key=environments.count) if environments else platform.machine()
    contents = [_section_content(out, record, planned, only, usual_environment) for planned in sections]
    folder = resources.files("deconvnet.report") / "web"
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(duration=duration, with_code=_with_code)
    page = jinja.from_string((folder / "report.html").read_text(encoding="utf-8")).render(
        contents=contents,
        record=record,
        about=record["about"],
        usual_environment=usual_environment,
        seconds=sum(content.seconds for content in contents),
        not_reproduced=NOT_REPRODUCED,
        style=(folder / "report.css").read_text(encoding="utf-8"),
    )
    atomic_write(out / "index.html", page.encode(errors="replace"))


def _with_code(text: str) -> Markup:
    """`text` as HTML, with what stands between backticks as <code>."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _section_content(
    out: Path, record: dict[str, Any], planned: PlannedSection, only: Sequence[str], usual_environment: str
) -> SectionContent:
    section, networks = planned.section, record["about"]["networks"]
    entries, not_run, results = [], [], {}
    for command in planned.commands:
        entry = record["steps"].get(command.key, {})
        if "failed" in entry:
            entries.append(CommandEntry(entry["command"], entry["failed"]))
            continue
        if not entry or not (out / command.result).exists():
            not_run.append(command.command_line)
            continue
        try:
            result = _read_result(out, command)
            entries.append(_command_entry(out, section, command, entry, result, usual_environment, networks))
        except (OSError, ValueError, KeyError) as error:
            failure = f"{command.result} is damaged ({error}): remove it, and run the same command again."
            entries.append(CommandEntry(entry["command"], failure))
            continue
        if result is not None:
            results[command.name] = result
    if any(entry.failure for entry in entries):
        state = "failed"
    elif not entries:
        state = "not run"
    else:
        state = "in part" if not_run or planned.missing else "done"
    layer_sizes = {network["full_name"].partition(" (")[0]: network["layers"] for network in networks.values()}
    return SectionContent(
        section=section,
        state=state,
        entries=entries,
        tables=comparison_tables(section.id, results, layer_sizes if entries else None),
        missing=list(planned.missing),
        not_run=not_run,
        excluded=bool(only) and section.id not in only,
        seconds=sum(entry.seconds or 0 for entry in entries),
    )


def _command_entry(
    out: Path,
    section: ReportSection,
    command: ReportCommand,
    entry: dict[str, Any],
    result: Any,
    usual_environment: str,
    networks: dict[str, dict[str, Any]],
) -> CommandEntry:
    folder = out / command.result.parent
    files, links = [], []
    if command.result.suffix == ".png":
        files = [out / command.result]
    elif not command.output_file and section.id != "training" and result is not None:
        files = sorted(folder.glob("*.png"), key=_picture_rank)
        if (folder / "index.html").exists():
            links.append((f"Browse the units of {command.name}", f"{command.result.parent.as_posix()}/index.html"))
            files = [file for file in files if file.stem.startswith("figure-")]
    names = network_names(result) or ([networks[command.name]["full_name"]] if files and command.name in networks else [])
    environment = _environment(entry)
    return CommandEntry(
        command_line=entry["command"],
        networks=names,
        pictures=[
            _picture(out, file, f"{section.source}: {file.stem.replace('figure-', '')}, {' · '.join(names)}")
            for file in files
        ],
        findings=result_findings(result),
        links=links,
        seconds=entry.get("seconds"),
        estimated_seconds=entry.get("estimated"),
        environment="" if environment == usual_environment else environment,
    )


def _picture_rank(file: Path) -> tuple[int, str]:
    return (_PICTURE_ORDER.index(file.stem) if file.stem in _PICTURE_ORDER else len(_PICTURE_ORDER), file.name)


def _picture(out: Path, file: Path, alt: str) -> Picture:
    with Image.open(file) as image:
        return Picture(file.relative_to(out).as_posix(), *image.size, alt)


def _read_result(out: Path, command: ReportCommand) -> Any:
    """The JSON that a command wrote; None if it wrote something else."""
    # What a training makes are weights; its numbers are in the ablation's file.
    file = out / "runs" / "ablation.json" if command.section == "training" else out / command.result
    return json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else None


def _environment(entry: dict[str, Any]) -> str:
    """Hardware and versions with which a command was run, as one line."""
    packages = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    return f"{entry['hardware']}; {packages}"
