"""The command `ablate`: train the networks of Table 3."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import DeviceOption, JsonOption, WorkersOption, find_device
from deconvnet.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from deconvnet.experiments.table3_ablation.variants import NetworkSize, Variant

#: Columns of the tables where the output is no terminal, which would know its width.
_WIDTH = 110


@app.command(
    epilog=example(
        "deconvnet ablate --list",
        "deconvnet ablate packed/ --out ablation/ --device cuda",
        "deconvnet ablate packed/ --out ablation/ --only zfnet,zfnet-fc2048 --recipe fast",
    )
)
def ablate(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="A folder with sets train and val, packed or not.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for runs and tables.", show_default=False)] = None,
    recipe: Annotated[str, typer.Option(metavar="paper|fast|FILE", help="How to train.")] = "paper",
    seed: Annotated[int, typer.Option(min=0, help="Another one draws other weights, crops and orders.")] = 0,
    only: Annotated[str, typer.Option(metavar="LABEL,…", help="Only these variants.  [default: all twelve]")] = "",
    only_list: Annotated[bool, typer.Option("--list", help="List the variants and their sizes; train nothing.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train the networks of Table 3, layers removed, narrowed or widened, and set their errors beside the paper's.

    If it is stopped, or killed, the same command goes on where it was. Several of them, with different --only, may work in
    one --out.
    """
    from deconvnet.experiments.table3_ablation.compute import ablate as train_variants
    from deconvnet.experiments.table3_ablation.compute import select_variants
    from deconvnet.experiments.table3_ablation.variants import network_size
    from deconvnet.training import read_recipe

    labels = [label.strip() for label in only.split(",")] if only else None
    if only_list:
        if data or out:
            raise UsageError("--list trains nothing: leave DATA and --out out.")
        options = read_recipe(recipe).network
        _list([(variant, network_size(variant, options)) for variant in select_variants(labels)], as_json)
        return
    if data is None or out is None:
        raise UsageError("ablate takes DATA and --out, or --list.")
    result = train_variants(
        data, out, recipe, seed=seed, only=labels, device=find_device(device), workers=workers, progress=True
    )
    if as_json:
        print(json.dumps(result.as_json(), indent=1))
        return
    console = _console()
    console.print(result.table())
    console.print(f"Errors. {result.description}", markup=False)
    console.print(f"Wrote {out}: ablation.json, ablation.csv, ablation.png.", markup=False)


def _list(sizes: "list[tuple[Variant, NetworkSize]]", as_json: bool) -> None:
    if as_json:
        found = {variant.label: {"change": variant.change, **asdict(of)} for variant, of in sizes}
        print(json.dumps(found, indent=1))
        return
    from rich.table import Table

    names = [*(f"conv{number}" for number in range(1, 6)), "fc6", "fc7"]
    table = Table("", *names, "params M", "MMAC", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for variant, of in sizes:
        layers = ["@".join(map(str, of.layers[name][:2])) if name in of.layers else "–" for name in names]
        table.add_row(variant.label, *layers, f"{of.parameters / 1e6:.1f}", f"{of.multiply_adds / 1e6:.0f}")
    console = _console()
    console.print(table)
    console.print("256@13: 256 maps of 13×13. MMAC: millions of multiply-adds for one view.", markup=False)


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)
