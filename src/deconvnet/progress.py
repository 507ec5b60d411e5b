"""Progress bars with rate and remaining time, on standard error: standard output is for results."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from deconvnet.formatting import printable

#: Seconds between two lines of a log.
_LOG_INTERVAL = 30.0


class Advance(Protocol):
    """Function to call with the number of steps just done, and optionally a short note on the state, such as the loss."""

    def __call__(self, steps: int, note: str = "", /) -> None: ...


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "–/s")


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3.5 hours, 74 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.0f} days"


@contextmanager
def progress_bar(description: str, total: int, show: bool, done: int = 0) -> Iterator[Advance]:
    """Show a progress bar of `total` steps, `done` of which were made by an earlier run; lines of a log off a terminal.

    Yields the function to call after each step or few. Without `show` nothing is printed.
    """
    if not show:
        yield lambda steps, note="": None
        return
    if not sys.stderr.isatty():
        yield _log_progress(description, total, done)
        return
    note = TextColumn("{task.fields[note]}")
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), note]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        yield lambda steps, note="": progress.update(task, advance=steps, note=note)


def _log_progress(description: str, total: int, done: int) -> Advance:
    """Print a line every half minute and one at the end."""
    start = last_line = time.monotonic()
    done_before = done

    def advance(steps: int, note: str = "", /) -> None:
        nonlocal done, last_line
        done += steps
        now = time.monotonic()
        if now - last_line >= _LOG_INTERVAL or done == total:
            last_line = now
            rate = (done - done_before) / max(now - start, 1e-9)
            remaining = timedelta(seconds=round((total - done) / rate)) if rate else "?"
            line = f"{description}: {done:,} of {total:,}, {rate:.1f}/s, {remaining} left"
            print_status(f"{line}, {note}" if note else line, True)

    return advance


def print_status(sentence: str, show: bool) -> None:
    """Print a line to standard error, between the progress bars, if `show`."""
    if show:
        print(sentence, file=sys.stderr, flush=True)


@contextmanager
def activity(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what the program is doing, in a line that goes at the end; elsewhere nothing.

    Yields a function that shows something else. Whatever else is printed meanwhile, such as the bar of a download, writes
    over the line.
    """
    is_terminal = Console(stderr=True).is_terminal

    def show(what: str) -> None:
        if is_terminal:
            line = f"{printable(what)} …" if what else ""
            sys.stderr.write(f"\r\x1b[2K{line}\r")
            sys.stderr.flush()

    show(what)
    try:
        yield show
    finally:
        show("")
