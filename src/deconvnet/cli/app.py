"""The Typer application with which the commands are registered."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import deconvnet
from deconvnet.errors import UsageError

#: The commands as `--help` lists them: in the order in which a new user needs them, as in the docs.
ORDER = (
    *("demo", "networks", "check", "look", "project", "atlas", "mine", "merge", "explore", "pack", "train", "evaluate"),
    *("evolve", "invariance", "compare", "occlude", "correspond", "ablate", "sanity", "reproduce"),
)

#: The commands that share their work among the processes of `torchrun`. All others would do the same in each of them, into
#: the same files, and are refused there.
SHARING = ("train", "evaluate", "atlas", "mine")


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    help=deconvnet.__doc__,
    no_args_is_help=True,
    add_completion=Path(sys.argv[0]).name != "__main__.py",  # shells complete `deconvnet`, and nothing for `python -m`
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"deconvnet {deconvnet.__version__}")
        raise typer.Exit


@app.callback()
def program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command: only --version. Runs before each command."""
    if "RANK" in os.environ and context.invoked_subcommand not in SHARING:  # RANK: else without torch, which takes seconds
        from deconvnet.distributed import Processes

        if Processes.from_environment().world_size > 1:
            raise UsageError(
                f"deconvnet {context.invoked_subcommand} runs in one process: start it without torchrun, which is for "
                f"{', '.join(SHARING[:-1])} and {SHARING[-1]}. To use several GPUs, start several commands, each with its "
                "own --device (cuda:0, cuda:1 …)."
            )


def example(*lines: str) -> str:
    """Markdown for the example at the end of a command's help."""
    return "**Example**\n\n" + "\n\n".join(f"`{line}`" for line in lines)
