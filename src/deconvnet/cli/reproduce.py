"""The command `reproduce`: the whole paper on one page."""

import io
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import DeviceOption, JsonOption, check_exists, find_device
from deconvnet.cli.print_results import print_result
from deconvnet.errors import DeconvnetError
from deconvnet.extras import require_extra
from deconvnet.report.paper_claims import DEFAULT_NETWORKS, SECTIONS

if TYPE_CHECKING:
    from deconvnet.report.estimate import Speed
    from deconvnet.report.inputs import ReportInputs

_IDS = ", ".join(section.id for section in SECTIONS)


@app.command(
    epilog=example(
        "deconvnet reproduce --quick --out report/",
        "deconvnet reproduce imagenette/ --out report/ --plan",
        "deconvnet reproduce imagenette/ --out report/ --alexnet alexnet2012:bvlc_alexnet_trunk.safetensors --landmarks "
        "cats/landmarks.json --run runs/zfnet",
        "deconvnet reproduce imagenet-256/ --out report/ --train paper --device cuda",
    )
)
def reproduce(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A folder of photos, or one with train/ and val/, packed or not.",
            show_default=False,
            callback=check_exists,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the report: index.html, and a folder for each part.")] = Path(
        "report"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Take scikit-image's photos and the networks that come along.")
    ] = False,
    alexnet: Annotated[str, typer.Option(metavar="NETWORK", help="In AlexNet's place.")] = DEFAULT_NETWORKS["alexnet"],
    zfnet: Annotated[str, typer.Option(metavar="NETWORK", help="In ZFNet's place.")] = DEFAULT_NETWORKS["zfnet"],
    runs: Annotated[
        list[Path] | None, typer.Option("--run", metavar="RUN", help="A training to show in Fig. 4; may be repeated.")
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For Table 1: where parts are in the photos beside it.")
    ] = None,
    train: Annotated[
        str, typer.Option(metavar="paper|fast|FILE", help="Train both networks, and Table 3's, by this recipe.")
    ] = "",
    only: Annotated[str, typer.Option(metavar="PART,…", help=f"Only these: {_IDS}.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="What everything random is drawn from.")] = 0,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be run and how long it takes; run nothing.")
    ] = False,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make one page of the whole paper: every figure and table that the data allows, beside what the paper says of its own.

    If it is stopped, or killed, the same command goes on where it was.
    """
    require_extra("report")
    from deconvnet.report.inputs import check_options, collect_inputs
    from deconvnet.report.runner import check_section_ids, open_report

    networks, trainings = {"alexnet": alexnet, "zfnet": zfnet}, runs or []
    ids = [name.strip() for name in only.split(",")] if only else []
    check_section_ids(ids)
    check_options(data, networks, trainings, train, quick)
    collect = partial(
        collect_inputs,
        data,
        network_specs=networks,
        training_runs=trainings,
        landmarks_file=landmarks,
        recipe_name=train,
        seed=seed,
        device=find_device(device),
        device_option=device,
    )
    if only_plan:
        with TemporaryDirectory() as scratch:
            parts, _ = _plan(collect(folder=Path(scratch)), out, ids)
        if as_json:
            print(json.dumps(parts, indent=1))
        return
    with open_report(out):
        record = _make(collect(folder=out), out, ids)
    failed = {key: step["failed"] for key, step in record["steps"].items() if "failed" in step}
    print_result(
        as_json,
        {"out": str(out), **record},
        *(f"{key} failed: {reason}" for key, reason in failed.items()),
        f"Wrote {out / 'index.html'}.",
    )
    if failed:
        count = "1 command" if len(failed) == 1 else f"{len(failed)} commands"
        raise DeconvnetError(f"{count} failed; the same command runs what failed again.")


def _make(inputs: "ReportInputs", out: Path, ids: list[str]) -> dict[str, Any]:
    from deconvnet.report.runner import run_report

    parts, speed = _plan(inputs, out, ids)
    _check_disk(out, sum(part["bytes"] for part in parts))
    command = shlex.join(["deconvnet", *sys.argv[1:]])
    return run_report(inputs, out, _run, speed, typed_command=command, only=ids, progress=True)


def _run(words: Sequence[str]) -> str:
    """Run a command in this process, as if it were typed; returns what it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        typer.main.get_command(app).main(list(words), prog_name="deconvnet", standalone_mode=False)
    return printed.getvalue()


def _plan(inputs: "ReportInputs", out: Path, ids: list[str]) -> tuple[list[dict[str, Any]], "Speed"]:
    """Say what is still to be run, about how long it takes, and what will be missing; returns the same as plain values."""
    from rich.console import Console
    from rich.table import Table

    from deconvnet.progress import duration
    from deconvnet.report.commands import plan_report
    from deconvnet.report.estimate import Speed
    from deconvnet.report.runner import is_finished, read_record, with_training

    record, wanted = read_record(out, inputs), with_training(ids, inputs)
    speed = Speed.measure(inputs.networks, inputs.image_set)
    table = Table("part", "in the paper", "what", "commands", "about", box=None)
    parts: list[dict[str, Any]] = []
    for planned in plan_report(inputs, out):
        if wanted and planned.section.id not in wanted:
            continue
        commands = [command for command in planned.commands if not is_finished(out, record, command)]
        seconds = sum(speed.seconds(command.workload) for command in commands)
        about = duration(seconds) if commands else "–"
        table.add_row(planned.section.id, planned.section.source, planned.section.title, str(len(commands)), about)
        parts.append(
            {
                "part": planned.section.id,
                "commands": [command.command_line for command in commands],
                "seconds": seconds,
                "bytes": sum(command.workload.disk_bytes for command in commands),
                "missing": list(planned.missing),
            }
        )
    disk = sum(part["bytes"] for part in parts) / 1e6
    together = duration(sum(part["seconds"] for part in parts))
    table.add_row("", "", "together", "", f"{together}, {disk:,.0f} MB of disk")
    console = Console(stderr=True, highlight=False)
    console.print(table)
    for part in parts:
        for reason in part["missing"]:
            console.print(f"{part['part']}: {reason}", markup=False)
    return parts, speed


def _check_disk(out: Path, needed: int) -> None:
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if (free := shutil.disk_usage(nearest).free) < needed:
        raise DeconvnetError(
            f"{out} needs about {needed / 1e6:,.0f} MB, and its disk has {free / 1e6:,.0f} MB left: choose another --out, "
            "or --only some parts."
        )
