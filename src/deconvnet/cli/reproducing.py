"""The command that makes one report of everything."""

import io
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import DeviceOption, JsonOption, find_device
from deconvnet.cli.printing import say
from deconvnet.errors import DeconvnetError
from deconvnet.report.paper import NETWORKS, PARTS

if TYPE_CHECKING:
    from deconvnet.report.estimate import Speeds
    from deconvnet.report.plan import Planned

_IDS = ", ".join(part.id for part in PARTS)


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
            metavar="DATA", help="A folder of photos, or one with train/ and val/, packed or not.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the report: index.html, and a folder for each part.")] = Path(
        "report"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Take scikit-image's photos and the networks that come along.")
    ] = False,
    alexnet: Annotated[str, typer.Option(metavar="NETWORK", help="In AlexNet's place.")] = NETWORKS["alexnet"],
    zfnet: Annotated[str, typer.Option(metavar="NETWORK", help="In ZFNet's place.")] = NETWORKS["zfnet"],
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
    from deconvnet.report.estimate import Speeds
    from deconvnet.report.gather import gather
    from deconvnet.report.plan import plan
    from deconvnet.report.reproduce import check_parts
    from deconvnet.report.reproduce import reproduce as make_report

    ids = [name.strip() for name in only.split(",")] if only else []
    check_parts(ids)
    materials = gather(
        data,
        out,
        {"alexnet": alexnet, "zfnet": zfnet},
        runs=runs or (),
        landmarks=landmarks,
        train=train,
        seed=seed,
        quick=quick,
        device=find_device(device),
        typed_device=device,
    )
    speeds = Speeds.measure(materials.networks, materials.photos)
    planned = [part for part in plan(materials, out) if not ids or part.part.id in ids]
    needed = sum(step.work.bytes for part in planned for step in part.steps)
    _print_estimate(planned, speeds, needed)
    if only_plan:
        return
    _check_disk(out, needed)
    command = shlex.join(["deconvnet", *sys.argv[1:]])
    record = make_report(materials, out, _run, speeds, command=command, only=ids, progress=True)
    failed = {key: step["failed"] for key, step in record["steps"].items() if "failed" in step}
    say(
        as_json,
        {"out": str(out), **record},
        *(f"{key} failed: {reason}" for key, reason in failed.items()),
        f"Wrote {out / 'index.html'}.",
    )
    if failed:
        raise DeconvnetError(f"{len(failed)} commands failed; the same command runs these again.")


def _run(words: Sequence[str]) -> str:
    """Run a command in this process, as if it were typed; returns what it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        typer.main.get_command(app).main(list(words), prog_name="deconvnet", standalone_mode=False)
    return printed.getvalue()


def _print_estimate(planned: Sequence["Planned"], speeds: "Speeds", needed: int) -> None:
    """Say what will be run, about how long it takes, and what will be missing."""
    from rich.console import Console
    from rich.table import Table

    from deconvnet.report.page import duration

    table = Table("in the paper", "what", "commands", "about", box=None)
    total = 0.0
    for part in planned:
        seconds = sum(speeds.seconds(step.work) for step in part.steps)
        total += seconds
        about = duration(seconds) if part.steps else "–"
        table.add_row(part.part.place, part.part.title, str(len(part.steps)), about)
    table.add_row("", "together", "", f"{duration(total)}, {needed / 1e9:.1f} GB of disk")
    console = Console(stderr=True, highlight=False)
    console.print(table)
    for part in planned:
        for reason in part.missing:
            console.print(f"{part.part.place}: {reason}", markup=False)


def _check_disk(out: Path, needed: int) -> None:
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise DeconvnetError(
            f"{out} needs about {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left: choose another --out, or "
            "--only some parts."
        )
