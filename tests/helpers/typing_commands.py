"""Typing what the documentation shows: in this process where that is possible, as a process takes long to start.

What installs, measures for an hour or needs several machines is checked as far as it can be without doing it.
"""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from deconvnet import cli
from helpers.shown_code import ROOT

#: Seconds in which a server has to answer.
_PATIENCE = 120.0


class DoesNotWork(Exception):
    """Why something that is shown does not."""


def words_of(text: str) -> list[str]:
    """A command's words, without the comment after it and what is set before it."""
    words = shlex.split(re.sub(r"(^|\s)#.*", "", text))  # to a shell no comment begins within a word
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def as_one_process(words: list[str]) -> list[str]:
    """`deconvnet …` for `torchrun … -m deconvnet …` and `python -m deconvnet …`."""
    if words[0] in ("torchrun", "python") and "-m" in words and words[words.index("-m") + 1] == "deconvnet":
        return words[words.index("-m") + 1 :]
    return words


def type_command(words: list[str], set_arguments: Callable[[list[str]], None]) -> None:
    """Raises `DoesNotWork`, with why. `set_arguments` puts words into `sys.argv`."""
    remove_result(words)
    if words[0] == "deconvnet":
        set_arguments(words)
        _serve_a_moment(words, set_arguments) if words[1:2] == ["explore"] else _expect(_main(), 0)
    elif words[0] == "make":
        _finish(["make", "--dry-run", *words[1:]], ROOT)
    elif words == ["source", ".venv/bin/activate"]:  # which `make setup` makes
        pass
    elif words[0] == "tensorboard":
        _tensorboard(words[1:])
    elif words[0] == "python" and words[1].endswith(".py") and (ROOT / words[1]).is_file():
        _parse(ROOT / words[1], words[2:])
    else:
        raise DoesNotWork("nothing here says how to run or check this: tests/helpers/typing_commands.py")


def remove_result(words: list[str]) -> None:
    """Remove what the command is to make, which another on its page has made."""
    if "--out" in words:
        out = Path(words[words.index("--out") + 1])
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)


def _main() -> int:
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _expect(code: int, wanted: int) -> None:
    if code != wanted:
        raise DoesNotWork(f"it ended with exit code {code}")


def _serve_a_moment(words: list[str], set_arguments: Callable[[list[str]], None]) -> None:
    """Start the server in this thread, and have Ctrl-C pressed once it answers."""
    port = _free_port()
    set_arguments([*words, "--port", str(port)])
    with _once_it_answers(port, lambda: os.kill(os.getpid(), signal.SIGINT)):
        _expect(_main(), 130)


@contextmanager
def _once_it_answers(port: int, act: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def wait() -> None:
        while not over.wait(0.1):
            if _answers(port):
                act()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tensorboard(words: list[str]) -> None:
    port = _free_port()
    command = [sys.executable, "-m", "tensorboard.main", *words, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + _PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise DoesNotWork(process.communicate()[1])
            time.sleep(0.2)
    finally:
        process.terminate()
        process.communicate()


def _parse(file: Path, words: list[str]) -> None:
    """Whether a script takes these arguments; tests/benchmarks runs them."""
    sys.path.insert(0, str(file.parent))
    try:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    script = typer.Typer(add_completion=False)
    script.command()(module.main)
    try:
        typer.main.get_command(script).make_context(file.name, words)
    except Exception as error:  # typer's own click is not to be imported
        raise DoesNotWork(f"it does not take these arguments: {error!r} {getattr(error, 'message', '')}") from None


def _finish(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DoesNotWork(done.stderr)


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
