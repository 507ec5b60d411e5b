"""Run the commands of a report one after the other, record what each took, and rewrite the page after each."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deconvnet.atlas.html import page_files, write_pages
from deconvnet.environment import hardware, software_versions
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.progress import print_status
from deconvnet.report.commands import PlannedSection, ReportCommand, plan_report
from deconvnet.report.estimate import Speed
from deconvnet.report.html import write_page
from deconvnet.report.inputs import ReportInputs, describe_inputs, identity_key
from deconvnet.report.paper_claims import SECTIONS
from deconvnet.storage import WorkFolder, atomic_write, first_difference, read_json_object, write_json

FORMAT = 1

#: Ids of the sections that do not need trained weights.
_NEED_NO_WEIGHTS = frozenset(("training", "fig-3"))


def report_folder(out: Path) -> WorkFolder:
    """The folder of a report; the work lies in `out` itself, so that the page can be read while it grows."""
    return WorkFolder(out, "report", "report.json", in_place=True)


@contextmanager
def open_report(out: Path) -> Iterator[None]:
    """Lock the folder `out` for a report: a new folder, an empty one, or one that holds a report already.

    If the block fails before `report.json` exists, a new folder is removed. Raises `UsageError` if the folder holds anything
    but a report, `DeconvnetError` if another process is writing it.
    """
    with report_folder(out).open(has_work=(out / "report.json").exists):
        yield


def read_record(out: Path, inputs: ReportInputs) -> dict[str, Any]:
    """The contents of `report.json` in `out`, or those of a new report.

    Raises `OtherWork` if it is a report of other inputs or damaged.
    """
    key = json.loads(json.dumps(identity_key(inputs)))

    def difference(record: dict[str, Any]) -> str:
        if record["format"] != FORMAT or not isinstance(record["steps"], dict):
            return "another format"
        name = first_difference(record["key"], key)
        return name and f"other {name}"

    if report_folder(out).has_record(difference):
        return read_json_object(out / "report.json")
    return {"format": FORMAT, "key": key, "steps": {}}


def run_report(
    inputs: ReportInputs,
    out: Path,
    run: Callable[[Sequence[str]], str],
    speed: Speed,
    *,
    typed_command: str = "",
    only: Sequence[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Write a report to the folder `out`, held by `open_report`: `index.html`, `report.json`, and a folder for each section.

    `run` takes the arguments of a `deconvnet` command, runs it, and returns what it prints. A command that fails is named on
    the page, and the others still run. Finished commands are not run again, so a second call, perhaps with another `only`
    (ids of sections, see `SECTIONS`), completes a report. The page shows `typed_command` as the command that made it.
    Returns the contents of `report.json`.

    Raises what `read_record` raises, and `DeconvnetError` if `out` cannot be written.
    """
    sections, record = plan_report(inputs, out), read_record(out, inputs)
    record |= {"about": describe_inputs(inputs), "command": typed_command, "folder": os.getcwd()}
    device = str(next(iter(inputs.networks.values())).device)
    only = with_training(only, inputs)
    commands = [command for planned in sections if not only or planned.section.id in only for command in planned.commands]
    _write(out, record, sections, only)
    for number, command in enumerate(commands, 1):
        if is_finished(out, record, command) or (_training_failed(record) and command.section not in _NEED_NO_WEIGHTS):
            continue
        print_status(f"{number} of {len(commands)}: {command.command_line}", progress)
        entry = {"command": command.command_line, "hardware": hardware(device), "versions": software_versions()}
        # Recorded before it runs: after a kill, a result that exists is then known to be this command's.
        record["steps"][command.key] = entry
        _write(out, record, sections, only)
        entry |= _run(out, command, run, speed)
        _write(out, record, sections, only)
    _link_atlases(out)
    _write(out, record, sections, only)
    return record


def check_section_ids(ids: Sequence[str]) -> None:
    """Raise `UsageError` for an id that no section has."""
    known_ids = [section.id for section in SECTIONS]
    if unknown := [name for name in ids if name not in known_ids]:
        raise UsageError(f"A report has no part {unknown[0]!r}; there are {', '.join(known_ids)}.")


def with_training(only: Sequence[str], inputs: ReportInputs) -> Sequence[str]:
    """The requested ids of sections, with "training" before them if networks must be trained for one of them."""
    return ["training", *only] if inputs.recipe_name and set(only) - _NEED_NO_WEIGHTS else only


def is_finished(out: Path, record: dict[str, Any], command: ReportCommand) -> bool:
    """Whether a command need not run: it has finished, or was killed when its final result existed already."""
    entry = record["steps"].get(command.key)
    if entry is None or "failed" in entry or not (out / command.result).exists():
        return False
    return "seconds" in entry or command.result_is_final


def _training_failed(record: dict[str, Any]) -> bool:
    return any(key.startswith("training/") and "failed" in entry for key, entry in record["steps"].items())


def _run(out: Path, command: ReportCommand, run: Callable[[Sequence[str]], str], speed: Speed) -> dict[str, Any]:
    """Run one command; returns what its entry in `report.json` gets."""
    start = time.perf_counter()
    try:
        (out / command.section).mkdir(exist_ok=True)
        printed = run(command.arguments)
        if command.output_file:
            atomic_write(out / command.result, printed.encode())
    except DeconvnetError as error:
        return {"failed": " ".join([str(error), *getattr(error, "__notes__", [])])}
    except Exception as error:  # a bug in one command must not stop the others
        return {"failed": f"{type(error).__name__}: {error}"}
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "estimated": round(speed.seconds(command.workload), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _link_atlases(out: Path) -> None:
    """Let the two atlases of Fig. 2 link to each other, so that their pages open side by side."""
    folders = [path.parent for path in sorted(out.glob("fig-2/*/atlas.json"))]
    for folder in folders:
        write_pages(folder, page_files(folder, [sibling.name for sibling in folders if sibling != folder]))


def _write(out: Path, record: dict[str, Any], sections: Sequence[PlannedSection], only: Sequence[str]) -> None:
    write_json(out / "report.json", record)
    write_page(out, record, sections, only)
