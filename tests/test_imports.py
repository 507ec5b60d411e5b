"""Imports run one way: a package imports only from packages below it, and no modules import each other in a circle."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "deconvnet"

#: From the lowest level to the highest; packages of one level know nothing of each other.
LEVELS = (
    ("errors", "version"),
    ("extras", "formatting"),
    ("progress",),
    ("storage",),
    ("environment",),
    ("distributed",),
    ("local_response_norm",),
    ("data",),
    ("demo_images",),
    ("tracing",),
    ("models",),
    ("projection",),
    ("mining",),
    ("training", "atlas", "checking"),
    ("experiments",),
    ("explorer", "report"),
    ("cli",),
)
LEVEL = {package: number for number, level in enumerate(LEVELS) for package in level}

#: Names of version 0.1 that only pass on what they are called now, and the package itself.
OUTSIDE = {"images", "networks", "__init__", "__main__"}

FILES = sorted(file for file in SOURCE.rglob("*.py") if file.relative_to(SOURCE).parts[0].removesuffix(".py") not in OUTSIDE)


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(file: Path) -> frozenset[str]:
    """Modules of the project that a file imports, anywhere in it, without the "deconvnet." in front."""
    known = {module_name(other) for other in FILES}
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("deconvnet."):
            base = f"{node.module}.".removeprefix("deconvnet.")
            # `from package import name` may import a module of that name.
            found |= {full if (full := f"{base}{alias.name}") in known else base[:-1] for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("deconvnet.") for alias in node.names if alias.name.startswith("deconvnet.")}
    return frozenset(found)


def test_every_package_has_a_level():
    assert {module_name(file).partition(".")[0] for file in FILES} == set(LEVEL)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_package_imports_only_from_those_below(file):
    own = module_name(file).partition(".")[0]
    others = {name for name in imported(file) if name.partition(".")[0] != own}
    assert not {name for name in others if LEVEL[name.partition(".")[0]] >= LEVEL[own]}


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_name(file): imported(file) - {module_name(file)} for file in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_an_upward_import_and_a_circle_are_seen(tmp_path, monkeypatch):
    low, high = tmp_path / "errors.py", tmp_path / "data.py"
    low.write_text("def late():\n    from deconvnet.data import ImageSet\n")
    high.write_text("from deconvnet import errors\nimport deconvnet.errors\n")
    monkeypatch.setattr("test_imports.SOURCE", tmp_path)
    monkeypatch.setattr("test_imports.FILES", [low, high])
    imported.cache_clear()
    with pytest.raises(AssertionError):
        test_a_package_imports_only_from_those_below(low)
    with pytest.raises(pytest.fail.Exception, match=r"errors → data → errors|data → errors → data"):
        test_no_modules_import_each_other_in_a_circle()
    imported.cache_clear()
