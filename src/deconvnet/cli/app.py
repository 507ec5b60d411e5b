"""The Typer application with which the commands are registered."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import deconvnet

#: The commands as `--help` lists them: in the order in which a new user needs them, as in the docs.
ORDER = (
    *("demo", "networks", "look", "project", "atlas", "mine", "merge", "explore", "pack", "train", "evaluate"),
    *("evolve", "invariance", "compare", "occlude", "correspond", "ablate", "sanity", "reproduce"),
)


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
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command: only --version."""


def example(*lines: str) -> str:
    """Markdown for the example at the end of a command's help."""
    return "**Example**\n\n" + "\n\n".join(f"`{line}`" for line in lines)
