"""Run the commands of a report one after the other, keep what each took, and write the page anew after each."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deconvnet.atlas.html import write_pages
from deconvnet.environment import hardware, software_versions
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.progress import say
from deconvnet.report.commands import (
    Materials,
    Planned,
    Speeds,
    Step,
    plan,
)
from deconvnet.report.html import write_page
from deconvnet.report.inputs import about, key
from deconvnet.report.paper_claims import PARTS
from deconvnet.storage import WorkFolder, atomic_write, first_difference, read_json_object, write_json

FORMAT = 1

#: Parts that say what networks are like before they are trained.
_UNTRAINED = frozenset(("training", "fig-3"))


def report_folder(out: Path) -> WorkFolder:
    """The folder of a report, which is looked at while it grows."""
    return WorkFolder(out, "report", "report.json", in_place=True)


@contextmanager
def open_report(out: Path) -> Iterator[None]:
    """Hold the folder `out` of a report, new, empty, or begun before; a new one is removed if its materials turn out bad.

    Raises `UsageError` if it holds anything but a report, `DeconvnetError` if another process is writing it.
    """
    with report_folder(out).open(has_work=(out / "report.json").exists):
        yield


def read_record(out: Path, materials: Materials) -> dict[str, Any]:
    """What `report.json` says of the report in `out`, or of a new one.

    Raises `DeconvnetError` if it is of other materials or cannot be read.
    """
    now = json.loads(json.dumps(key(materials)))

    def difference(record: dict[str, Any]) -> str:
        if record["format"] != FORMAT or not isinstance(record["steps"], dict):
            return "another format"
        name = first_difference(record["key"], now)
        return name and f"other {name}"

    if report_folder(out).is_begun(difference):
        return read_json_object(out / "report.json")
    return {"format": FORMAT, "key": now, "steps": {}}


def reproduce(
    materials: Materials,
    out: Path,
    run: Callable[[Sequence[str]], str],
    speeds: Speeds,
    *,
    command: str = "",
    only: Sequence[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Make a report in the folder `out`, which is held by `open_report`: `index.html`, `report.json`, and a folder for each part.

    `run` runs a command of `deconvnet`, given as its words, and returns what it prints. A command that fails is named on the
    page, and the others go on; what has finished is not run again, so the same call, with another `only` (ids of parts, see
    `PARTS`) perhaps, completes a report. `command` is what the page says that it was made by. Returns what `report.json`
    holds.

    Raises what `read_record` raises, and `DeconvnetError` if `out` cannot be written.
    """
    parts, record = plan(materials, out), read_record(out, materials)
    record |= {"about": about(materials), "command": command, "folder": os.getcwd()}
    device = str(next(iter(materials.networks.values())).device)
    only = with_training(only, materials)
    steps = [step for part in parts for step in part.steps if not only or part.part.id in only]
    _write(out, record, parts, only)
    for number, step in enumerate(steps, 1):
        if finished(out, record, step) or (_untrained(record) and step.part not in _UNTRAINED):
            continue
        say(f"{number} of {len(steps)}: {step.typed}", progress)
        entry = {"command": step.typed, "hardware": hardware(device), "versions": software_versions()}
        record["steps"][step.key] = entry  # known to have begun, so that what is there after a kill is known to be its
        _write(out, record, parts, only)
        try:
            entry |= _run(out, step, run, speeds)
        except BaseException:
            raise
        _write(out, record, parts, only)
    _link_atlases(out)
    _write(out, record, parts, only)
    return record


def check_parts(only: Sequence[str]) -> None:
    """Raise `UsageError` for an id that no part has."""
    ids = [part.id for part in PARTS]
    if unknown := [name for name in only if name not in ids]:
        raise UsageError(f"A report has no part {unknown[0]!r}; there are {', '.join(ids)}.")


def with_training(only: Sequence[str], materials: Materials) -> Sequence[str]:
    """The parts that are asked for and, if one of them needs it, the training."""
    return ["training", *only] if materials.train and set(only) - _UNTRAINED else only


def finished(out: Path, record: dict[str, Any], step: Step) -> bool:
    """Whether a step need not run: it has, or was killed when what it makes was there already."""
    entry = record["steps"].get(step.key)
    if entry is None or "failed" in entry or not (out / step.result).exists():
        return False
    return "seconds" in entry or step.whole


def _untrained(record: dict[str, Any]) -> bool:
    return any(key.startswith("training/") and "failed" in entry for key, entry in record["steps"].items())


def _run(out: Path, step: Step, run: Callable[[Sequence[str]], str], speeds: Speeds) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        (out / step.part).mkdir(exist_ok=True)
        printed = run(step.words)
        if step.to:
            atomic_write(out / step.result, printed.encode())
    except DeconvnetError as error:
        return {"failed": " ".join([str(error), *getattr(error, "__notes__", [])])}
    except Exception as error:  # whatever it is, the other commands may do
        return {"failed": f"{type(error).__name__}: {error}"}
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "estimated": round(speeds.seconds(step.work), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _link_atlases(out: Path) -> None:
    """Let the two atlases of Fig. 2 name each other, so that their pages open side by side."""
    folders = [path.parent for path in sorted(out.glob("fig-2/*/atlas.json"))]
    for folder in folders:
        write_pages(folder, [other.name for other in folders if other != folder])


def _write(out: Path, record: dict[str, Any], parts: Sequence[Planned], only: Sequence[str]) -> None:
    write_json(out / "report.json", record)
    write_page(out, record, parts, only)
