"""What docs/command_options.py says of a command."""

import importlib.util
from pathlib import Path

import pytest
import typer

from deconvnet.cli.app import app

FILE = Path(__file__).parents[2] / "docs" / "command_options.py"


@pytest.fixture(scope="module")
def directive():
    spec = importlib.util.spec_from_file_location("command_options", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(command: str) -> dict:
    return {parameter.name: parameter for parameter in typer.main.get_command(app).commands[command].params}


def test_usage_has_what_is_needed_and_brackets_round_what_is_not(directive):
    def usage(name: str) -> str:
        return directive.usage(name, list(parameters(name).values()))

    assert usage("project") == "deconvnet project NETWORK IMAGE --layer TEXT --out PATH [OPTIONS]"
    assert usage("merge") == "deconvnet merge NETWORK IMAGES PART… --out PATH [OPTIONS]"
    assert usage("explore") == "deconvnet explore [ATLAS…] [OPTIONS]"
    assert usage("networks") == "deconvnet networks [NETWORK] [OPTIONS]"


def test_options_say_what_they_take_and_what_holds_without_them(directive):
    found = {
        name: (directive.spelt(parameter), directive.what_if_left_out(parameter))
        for name, parameter in parameters("atlas").items()
    }
    assert found["network"] == ("NETWORK", "*needed*")
    assert found["top"] == ("--top NUMBER", "`9`")
    assert found["layers"] == ("--layers TEXT", "the convolutional layers")
    assert found["workers"] == ("--workers NUMBER", "one per core")
    assert found["preprocessing"] == ("--preprocessing PATH", "")
    assert found["as_json"] == ("--json", "")


def test_every_command_can_be_said(directive):
    for name, command in typer.main.get_command(app).commands.items():
        assert directive.usage(name, command.params).startswith(f"deconvnet {name}")
        assert all(parameter.help for parameter in command.params)
