"""Run the commands of a report one after the other, keep what each took, and write the page anew after each."""

import json
import os
import shutil
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
from deconvnet.storage import atomic_write, locked, refuse_existing

FORMAT = 1

#: Parts that say what networks are like before they are trained.
_UNTRAINED = frozenset(("training", "fig-3"))


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Hold the folder `out` of a report, new, empty, or begun before; a new one is removed if its materials turn out bad.

    Raises `UsageError` if it holds anything but a report, `DeconvnetError` if another process is writing it.
    """
    there = out.exists() or out.is_symlink()
    if there and not (out / "report.json").exists() and not _only_a_lock(out):
        refuse_existing(out.absolute())
    with locked(out / ".lock", f"Another process is making {out}: wait for it, or choose another --out."):
        begun = (out / "report.json").exists()
        try:
            yield
        except BaseException:
            if not begun and not (out / "report.json").exists():
                shutil.rmtree(out, ignore_errors=True)
            raise


def _only_a_lock(out: Path) -> bool:
    return out.is_dir() and {path.name for path in out.iterdir()} <= {".lock"}


def open_record(out: Path, materials: Materials) -> dict[str, Any]:
    """What `report.json` says of the report in `out`, or of a new one.

    Raises `UsageError` if it is of other materials, `DeconvnetError` if it cannot be read.
    """
    file, now = out / "report.json", json.loads(json.dumps(key(materials)))
    record: dict[str, Any] = {"format": FORMAT, "key": now, "steps": {}}
    if file.exists():
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            found = dict(record["key"])
            if record["format"] != FORMAT or not isinstance(record["steps"], dict):
                raise ValueError("it is of another version")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeconvnetError(f"{file} cannot be read ({error}): choose another --out.") from None
        for name, value in now.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{out} holds a report of other {name}: go on with the command that began it, or choose another --out."
                )
    return record


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
    """Make a report in the folder `out`, which is `claimed`: `index.html`, `report.json`, and a folder for each part.

    `run` runs a command of `deconvnet`, given as its words, and returns what it prints. A command that fails is named on the
    page, and the others go on; what has finished is not run again, so the same call, with another `only` (ids of parts, see
    `PARTS`) perhaps, completes a report. `command` is what the page says that it was made by. Returns what `report.json`
    holds.

    Raises what `open_record` raises, and `DeconvnetError` if `out` cannot be written.
    """
    parts, record = plan(materials, out), open_record(out, materials)
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
        except BaseException as stopped:
            if not getattr(stopped, "__notes__", None):
                stopped.add_note("The same command goes on where it was.")
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
    atomic_write(out / "report.json", json.dumps(record, indent=1).encode())
    write_page(out, record, parts, only)
