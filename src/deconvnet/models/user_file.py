"""A network from the user's own Python file: `FILE.py:function`, a function that returns a `Network`."""

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models.network import Network

#: The shortest beginning that ends in .py before a colon or the end, so that C:\nets\mine.py:net is a file and a function.
_FILE_AND_FUNCTION = re.compile(r"(?P<file>.+?\.py)(?::(?P<function>.*))?", re.DOTALL)


def split(network: str) -> tuple[Path, str] | None:
    """The file and the function (empty if there is none) of `FILE.py:function`; None for another kind of name."""
    found = _FILE_AND_FUNCTION.fullmatch(network)
    return (Path(found["file"]), found["function"] or "") if found else None


def load_function(file: Path, function: str) -> Network:
    """Import `file`, call its `function` and return the `Network` that it makes.

    The file is run as any Python program is: name only files that you trust. Its folder is on `sys.path` while it is
    imported and while the function runs. A network that was not named is called `FILE.py:function`, without the folder.

    Raises `UsageError` if there is no such function or it needs arguments; `DeconvnetError` if there is no such file, or if
    it raises, or returns something else.
    """
    if not file.is_file():
        raise DeconvnetError(f"There is no file {file}.")
    with _importing_from(file.resolve().parent):
        with _explained(file, f"{file} cannot be imported"):
            module = _import(file)
        made = _function(module, file, function)
        with _explained(file, f"{function} of {file} failed"):
            network = made()
    if not isinstance(network, Network):
        raise DeconvnetError(
            f"{function} of {file} returned {_kind(network)}: let it return deconvnet.Network(module, preprocessing)."
        )
    if network.name == "network":
        network.name = f"{file.name}:{function}"
    return network


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _import(file: Path) -> ModuleType:
    name = file.stem if file.stem not in sys.modules else str(file.resolve())  # a file called torch.py hides nothing
    spec = spec_from_file_location(name, file)
    assert spec, "a .py file has a loader"
    assert spec.loader, "a .py file has a loader"
    sys.modules[name] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _function(module: ModuleType, file: Path, name: str) -> Callable[[], Any]:
    own = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    there = f"it has {', '.join(own)}" if own else "write one that returns deconvnet.Network(module, preprocessing)"
    if not name:
        raise UsageError(f"Say which function of {file} makes the network, as {file}:FUNCTION: {there}.")
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{file} has no function {name!r}: {there}.")
    try:
        needed = inspect.signature(function)
        needed.bind()
    except TypeError:
        raise UsageError(f"{name} of {file} cannot be called without arguments: it takes {needed}.") from None
    except ValueError:  # something compiled, which does not tell
        pass
    return function


@contextmanager
def _explained(file: Path, what: str) -> Iterator[None]:
    """Say in one sentence what the user's own code raised, and in which line of the file."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, file)]
        if isinstance(error, SyntaxError) and error.filename and _same(error.filename, file):
            lines.append(error.lineno)
        reason = str(error).strip().splitlines()
        kind = type(error).__name__
        said = f"{kind}: {reason[0].rstrip('.')}" if reason else kind
        where = f" in line {lines[-1]}" if lines else ""
        raise DeconvnetError(f"{what}{where} ({said}).") from error


def _same(filename: str, file: Path) -> bool:
    return Path(filename).resolve() == file.resolve()


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
