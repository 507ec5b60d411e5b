"""A directive that says how a command is called: its usage, and a table of its arguments and options.

    ```{command-options} atlas
    ```

What it says is read from the command itself, so it cannot be out of date. (Typer has a click of its own, which the Sphinx
extensions for click do not know.)
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import deconvnet.cli.main  # noqa: F401  (it registers the commands)
from deconvnet.cli.app import app

#: What an option takes that does not say it itself.
KINDS = {int: "NUMBER", float: "NUMBER", Path: "PATH"}

#: What a default looks like that stands in the help text.
SAID = re.compile(r"\s*\[default: (.*)\]\Z")


class CommandOptions(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        name = self.arguments[0]
        if name not in commands:
            raise self.error(f"There is no command {name!r}; there are {', '.join(commands)}.")
        parameters = [parameter for parameter in commands[name].params if not parameter.hidden]
        rows = [f"| `{spelt(p)}` | {cell(SAID.sub('', p.help or ''))} | {what_if_left_out(p)} |" for p in parameters]
        table = ["| | | if left out |", "| --- | --- | --- |", *rows]
        return self.parse_text_to_nodes("\n".join([f"```text\n{usage(name, parameters)}\n```", "", *table]))


def usage(name: str, parameters: list[Any]) -> str:
    """The command with what it needs; what may be left out stands in brackets."""
    words = [spelt(p) if p.required else f"[{spelt(p)}]" for p in parameters if is_argument(p)]
    words += [spelt(p) for p in parameters if not is_argument(p) and p.required]
    return " ".join(["deconvnet", name, *words, "[OPTIONS]"])


def spelt(parameter: Any) -> str:
    """An argument as `NETWORK`, an option as `--units TEXT`, with dots where several may be given."""
    several = "…" if parameter.multiple or parameter.nargs != 1 else ""
    if is_argument(parameter):
        return (parameter.metavar or parameter.name.upper()).strip("[]").removesuffix("…") + several
    if parameter.is_flag:
        return ", ".join(parameter.opts)
    takes = parameter.metavar or next((KINDS[kind] for kind in KINDS if kind.__name__ in kinds(parameter)), "TEXT")
    return f"{', '.join(parameter.opts)} {takes}{several}"


def kinds(parameter: Any) -> list[str]:
    """The names in a parameter's annotation: `int | None` has two."""
    return re.findall(r"\w+", str(parameter.type_descriptor.annotation))


def is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def what_if_left_out(parameter: Any) -> str:
    said = SAID.search(parameter.help or "")
    if parameter.required:
        return "*needed*"
    if said:
        return cell(said[1])
    return "" if parameter.default in (None, "", False) else f"`{cell(str(parameter.default))}`"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
