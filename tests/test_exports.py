"""What packages export: each name is there, documented, needed by somebody outside, and exported in one place."""

import ast
import dataclasses
import importlib
import inspect
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "deconvnet"


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


#: Deprecated names of packages are left out.
PACKAGES = sorted(
    module_name(file) for file in SOURCE.rglob("__init__.py") if file.parent.name not in ("images", "networks")
)
EXPORTS = [(package, name) for package in PACKAGES for name in getattr(importlib.import_module(package), "__all__", ())]


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def comment_above(package: str, name: str) -> bool:
    """Whether the value is assigned, in some module of the package, under a comment that begins with `#:`."""
    for file in (SOURCE.parent / package.replace(".", "/")).glob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        for statement in parsed(file).body:
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return lines[statement.lineno - 2].startswith("#:")
    return False


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_is_there_and_documented(package, name):
    value = getattr(importlib.import_module(package), name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        assert comment_above(package, name), f"{package}.{name} has no comment that begins with #:"
        return
    assert value.__module__.startswith("deconvnet.")
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert text
    assert not (dataclasses.is_dataclass(value) and text.startswith(f"{name}(")), "this is what dataclasses write themselves"


def test_each_is_needed_outside_of_its_package():
    used = set()
    for folder in ("src", "tests", "benchmarks", "docs"):
        for file in (ROOT / folder).rglob("*.py"):
            if "_build" in file.parts:
                continue
            own = module_name(file.parent / "__init__.py") if folder == "src" else ""
            for node in ast.walk(parsed(file)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module != own:
                    used |= {(node.module, alias.name) for alias in node.names}
    # The whole package's own names and those of the experiments are for users: a figure's folder has its function, its
    # options and its result.
    internal = [
        (package, name) for package, name in EXPORTS if package.split(".")[1:2] not in ([], ["cli"], ["experiments"])
    ]
    assert [export for export in internal if export not in used] == []


def test_each_has_one_place():
    names = [name for package, name in EXPORTS if package != "deconvnet"]
    assert sorted(names) == sorted(set(names))


def test_the_deprecated_package_has_all_names_of_version_0_1():
    with pytest.warns(DeprecationWarning, match=r"deconvnet\.images is now called deconvnet\.data"):
        import deconvnet.images
    names = """Batch PackedPhotos Photos UnreadableImage batches find_photos find_sets grouped imagenet_classes named_classes
        pack read_batch read_image""".split()
    assert [name for name in names if not hasattr(deconvnet.images, name)] == []


def test_what_is_imported_when_first_used_is_what_type_checkers_are_told():
    import deconvnet

    (block,) = (node for node in parsed(SOURCE / "__init__.py").body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == {name: f"deconvnet.{package}" for name, package in deconvnet._PACKAGES.items()}
    assert set(deconvnet.__all__) == told.keys() | {"DeconvnetError", "DeconvnetWarning", "UsageError"}
    assert set(deconvnet.__all__) <= set(dir(deconvnet))
    with pytest.raises(AttributeError, match="module 'deconvnet' has no attribute 'nothing'"):
        _ = deconvnet.nothing
