"""The command `evaluate`: top-1 and top-5 errors of networks (Table 2)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from deconvnet.cli.app import app, example
from deconvnet.cli.options import (
    NETWORK_HELP,
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    PreprocessingOption,
    WorkersOption,
    check_exists,
    load_network,
)
from deconvnet.cli.print_results import print_result
from deconvnet.errors import UsageError


class _NamesBothArguments(TyperCommand):
    """Names both arguments when one is missing: click would always say NETWORK, which takes all but the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if type(error).__name__ != "MissingParameter":
                raise
            raise UsageError("Two things are needed: a network, or more, and last the photos: NETWORK… DATA.") from None


@app.command(
    cls=_NamesBothArguments,
    epilog=example(
        "deconvnet evaluate alexnet:imagenet1k imagenet/",
        "deconvnet evaluate zfnet:run-1/weights.safetensors zfnet:run-2/weights.safetensors imagenet/ --table",
        "torchrun --nproc-per-node 4 -m deconvnet evaluate zfnet:pytorchcv imagenet/ --views 1 --json",
    ),
)
def evaluate(
    networks: Annotated[list[str], typer.Argument(metavar="NETWORK", help=f"One or more: {NETWORK_HELP}")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with one folder of photos per class, called by its WordNet id; a packed set; or a folder with "
            "such a val/ in it.",
        ),
    ],
    views: Annotated[
        int, typer.Option(metavar="1|10", help="Of each photo: 1, the central one, or 10, with corners and mirrored.")
    ] = 10,
    table: Annotated[bool, typer.Option("--table", help="Print the paper's Table 2 with these networks added.")] = False,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say how often networks are wrong: top-1 and top-5 error with a 95 % interval; of several, their average's as well."""
    check_exists(data)
    from deconvnet.distributed import Processes
    from deconvnet.experiments.class_labels import find_labelled_images
    from deconvnet.experiments.table2_errors.compute import evaluate as evaluate_networks
    from deconvnet.experiments.table2_errors.paper_table import TABLE_2

    processes, image_set = Processes.from_environment(), find_labelled_images(data)
    result = evaluate_networks(
        [load_network(name, preprocessing, device) for name in networks],
        image_set,
        views,
        batch_size=batch_size,
        workers=workers,
        processes=processes,
        progress=processes.is_first,
    )
    if processes.is_first:
        paper = {"paper_table_2": [asdict(row) for row in TABLE_2]} if table else {}
        print_result(as_json, {**result.as_json(), **paper}, *(result.table_2() if table else result.lines()))
