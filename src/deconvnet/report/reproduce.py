"""Run the commands of a report one after the other, keep what each took, and write the page anew after each."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deconvnet.atlas.pages import write_pages
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.files import locked, write_whole
from deconvnet.made_with import hardware, versions
from deconvnet.networks import Network
from deconvnet.progress import say
from deconvnet.report.estimate import Speeds
from deconvnet.report.page import write_page
from deconvnet.report.paper import PARTS
from deconvnet.report.plan import Materials, Planned, Step, plan

FORMAT = 1

#: Parts that say what networks are like before they are trained.
_UNTRAINED = frozenset(("training", "fig-3"))


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
    """Make a report in the folder `out`: `index.html`, `report.json`, and a folder for each part.

    `run` runs a command of `deconvnet`, given as its words, and returns what it prints. A command that fails is named on the
    page, and the others go on; what has finished is not run again, so the same call, with another `only` (ids of parts, see
    `PARTS`) perhaps, completes a report. `command` is what the page says that it was made by. Returns what `report.json`
    holds.

    Raises `UsageError` for unknown parts and for an `out` that holds anything but a report of the same materials,
    `DeconvnetError` if it cannot be written or another process is writing it.
    """
    parts = plan(materials, out)
    check_parts(only)
    device = str(next(iter(materials.networks.values())).device)
    with locked(out / ".lock", f"Another process is making {out}: wait for it, or choose another --out."):
        record = _open(out, materials, command)
        if only and materials.train and set(only) - _UNTRAINED:
            only = ["training", *only]
        steps = [step for part in parts for step in part.steps if not only or part.part.id in only]
        for number, step in enumerate(steps, 1):
            if not _finished(out, record, step):
                say(f"{number} of {len(steps)}: {step.typed}", progress)
                record["steps"][step.key] = _run(out, step, run, speeds, device)
                if step.part == "fig-2":
                    _link_atlases(out)
            _write(out, record, parts, only)
        _write(out, record, parts, only)
    return record


def check_parts(only: Sequence[str]) -> None:
    """Raise `UsageError` for an id that no part has."""
    ids = [part.id for part in PARTS]
    if unknown := [name for name in only if name not in ids]:
        raise UsageError(f"A report has no part {unknown[0]!r}; there are {', '.join(ids)}.")


def _open(out: Path, materials: Materials, command: str) -> dict[str, Any]:
    """The record of the report in `out`, or a new one."""
    file, asked = out / "report.json", _asked(materials)
    record: dict[str, Any] = {"format": FORMAT, "asked": asked, "steps": {}}
    if file.exists():
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            steps, found = record["steps"], record["asked"]
            if record["format"] != FORMAT or not isinstance(steps, dict):
                raise ValueError("it is of another version")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeconvnetError(f"{file} cannot be read ({error}): choose another --out.") from None
        for name, value in asked.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{out} holds a report of other {name}: go on with the command that began it, or choose another --out."
                )
    return {**record, "command": command}


def _asked(materials: Materials) -> dict[str, Any]:
    """What a report must be the same in to be gone on with."""
    return {
        "networks": {role: _about(materials, role, network) for role, network in materials.networks.items()},
        "photos": {
            "folder": str(materials.folder),
            "digest": materials.photos.digest,
            "photos": len(materials.photos),
            "classes": len(materials.photos.classes),
        },
        "runs": list(map(str, materials.runs)),
        "landmarks": None if materials.landmarks is None else str(materials.landmarks),
        "recipe": materials.train,
        "seed": materials.seed,
        "quick": materials.quick,
    }


def _about(materials: Materials, role: str, network: Network) -> dict[str, Any]:
    spec = materials.specs[role]
    if materials.train:
        return {"network": spec, "full_name": f"{spec}, trained for this report", "digest": ""}
    return {"network": spec, "full_name": network.full_name, "digest": network.digest}


def _finished(out: Path, record: dict[str, Any], step: Step) -> bool:
    """Whether a step need not run: it is recorded, or what it makes is there whole, of a call that was killed just then."""
    there = (out / step.result).exists()
    known = record["steps"].get(step.key)
    if there and step.whole and (known is None or "failed" in known):
        record["steps"][step.key] = {"command": step.typed}
        return True
    return there and known is not None and "failed" not in known


def _run(out: Path, step: Step, run: Callable[[Sequence[str]], str], speeds: Speeds, device: str) -> dict[str, Any]:
    start = time.perf_counter()
    entry: dict[str, Any] = {"command": step.typed}
    try:
        (out / step.result).parent.parent.mkdir(parents=True, exist_ok=True)
        printed = run(step.words)
        if step.to:
            write_whole(out / step.result, printed.encode())
    except DeconvnetError as error:
        return {**entry, "failed": " ".join([str(error), *getattr(error, "__notes__", [])])}
    return {
        **entry,
        "seconds": round(time.perf_counter() - start, 1),
        "estimated": round(speeds.seconds(step.work), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(device),
        "versions": versions(),
    }


def _link_atlases(out: Path) -> None:
    """Let the two atlases of Fig. 2 name each other, so that their pages open side by side."""
    folders = [path.parent for path in sorted(out.glob("fig-2/*/atlas.json"))]
    for folder in folders:
        write_pages(folder, [other.name for other in folders if other != folder])


def _write(out: Path, record: dict[str, Any], parts: Sequence[Planned], only: Sequence[str]) -> None:
    write_whole(out / "report.json", json.dumps(record, indent=1, ensure_ascii=False).encode())
    write_page(out, record, parts, only)
