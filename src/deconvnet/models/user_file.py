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

#: The file is the shortest prefix that ends in .py before a colon or the end, so C:\nets\mine.py:net works too.
_FILE_AND_FUNCTION = re.compile(r"(?P<file>.+?\.py)(?::(?P<function>.*))?", re.DOTALL)


def split_user_spec(spec: str) -> tuple[Path, str] | None:
    """The file and the function (empty if there is none) of `FILE.py:function`; None for any other name of a network."""
    match = _FILE_AND_FUNCTION.fullmatch(spec)
    return (Path(match["file"]), match["function"] or "") if match else None


def load_user_network(file: Path, function: str) -> Network:
    """Import `file`, call its `function` and return the `Network` that it returns.

    The file is run as any Python program is: name only files that you trust. Its folder is on `sys.path` while it is
    imported and while the function runs. A network that has no name yet is called `FILE.py:function`, without the folder.

    Raises `UsageError` if the function does not exist or needs arguments; `DeconvnetError` if the file does not exist, if
    either of them raises, or if the function returns something else.
    """
    if not file.is_file():
        raise DeconvnetError(f"There is no file {file}.")
    with _folder_on_path(file.resolve().parent):
        with _user_errors(file, f"{file} cannot be imported"):
            module = _import(file)
        make_network = _find_function(module, file, function)
        with _user_errors(file, f"{function} of {file} failed"):
            network = make_network()
    if not isinstance(network, Network):
        raise DeconvnetError(
            f"{function} of {file} returned {_type_name(network)}: let it return deconvnet.Network(module, preprocessing)."
        )
    if network.name == "network":
        network.name = f"{file.name}:{function}"
    return network


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _import(file: Path) -> ModuleType:
    name = file.stem if file.stem not in sys.modules else str(file.resolve())  # torch.py must not replace torch
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


def _find_function(module: ModuleType, file: Path, name: str) -> Callable[[], Any]:
    functions = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    hint = (
        f"it has {', '.join(functions)}" if functions else "write one that returns deconvnet.Network(module, preprocessing)"
    )
    if not name:
        raise UsageError(f"Say which function of {file} makes the network, as {file}:FUNCTION: {hint}.")
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{file} has no function {name!r}: {hint}.")
    try:
        signature = inspect.signature(function)
        signature.bind()
    except TypeError:
        raise UsageError(f"{name} of {file} cannot be called without arguments: it takes {signature}.") from None
    except ValueError:  # compiled code has no signature to inspect
        pass
    return function


@contextmanager
def _user_errors(file: Path, message: str) -> Iterator[None]:
    """Turn what the user's code raises into a one-sentence `DeconvnetError`: `message`, the line of the file, the reason."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is_same_file(frame.filename, file)]
        if isinstance(error, SyntaxError) and error.filename and _is_same_file(error.filename, file):
            lines.append(error.lineno)
        reason = str(error).strip().splitlines()
        cause = f"{type(error).__name__}: {reason[0].rstrip('.')}" if reason else type(error).__name__
        line = f" in line {lines[-1]}" if lines else ""
        raise DeconvnetError(f"{message}{line} ({cause}).") from error


def _is_same_file(filename: str, file: Path) -> bool:
    return Path(filename).resolve() == file.resolve()


def _type_name(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
