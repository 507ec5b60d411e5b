"""The command `train`: train a network from scratch (section 3)."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet.cli.app import app, example
from deconvnet.cli.options import DeviceOption, JsonOption, WorkersOption, check_exists, find_device
from deconvnet.cli.print_results import print_result


@app.command(
    epilog=example(
        "deconvnet train zfnet packed/ --out run/",
        "deconvnet train alexnet2012 imagenette/ --out run/ --recipe fast --seed 1",
        "torchrun --nproc-per-node 8 -m deconvnet train zfnet packed/ --out run/",
        "tensorboard --logdir run/",
    )
)
def train(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="What to train: alexnet2012, zfnet, zfnet512, zfnet-wide.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with train/ and val/, each with a folder per class, or what `pack` makes of it.",
            callback=check_exists,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder for logs, checkpoints, snapshots and weights.")],
    recipe: Annotated[str, typer.Option(metavar="paper|fast|FILE", help="How; FILE is a TOML file.")] = "paper",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="What everything random is drawn from.")] = 0,
    device: DeviceOption = "",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network from scratch (section 3).

    Ctrl-C saves first. Rerun the same command to resume an interrupted run; on a CPU it ends in the same weights.
    """
    from deconvnet.distributed import Processes
    from deconvnet.models import load
    from deconvnet.training import read_log
    from deconvnet.training import train as train_network

    processes = Processes.from_environment()
    weights = train_network(
        network,
        data,
        out,
        recipe,
        seed=seed,
        device=find_device(device),
        workers=workers,
        progress=processes.is_first,
    )
    if not processes.is_first:
        return
    last = read_log(weights.parent)[-1]
    top1, top5, learnt = (last[name] for name in ("val_error_top1", "val_error_top5", "train_error"))
    classes = load(network, weights).classes or ()
    besides = f"top-5 {top5:.1%}; " if len(classes) > 5 else ""  # of five or fewer it is always 0
    print_result(
        as_json,
        {"weights": str(weights), "network": network, "seed": seed, **last},
        f"Wrote {out / weights.name}: after {last['epoch']:.0f} epochs {top1:.1%} of the photos in val are classified "
        f"wrongly ({besides}one central view), and {learnt:.1%} of those learnt from (random crops, with dropout).",
        f"`deconvnet evaluate {network}:{out / weights.name} {data} --views 10` judges it as the paper does.",
    )
