"""Progress bars with rate and time left, on standard error so that standard output stays clean for results."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

#: Seconds between two lines in a log.
_EVERY = 30.0


class Advance(Protocol):
    """What is called with the number of steps just done, and perhaps a few words on how things stand."""

    def __call__(self, steps: int, note: str = "", /) -> None: ...


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "–/s")


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3.5 hours, 74 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.0f} days"


@contextmanager
def bar(description: str, total: int, show: bool, done: int = 0) -> Iterator[Advance]:
    """A progress bar for `total` steps, `done` of which were made in an earlier run.

    Yields the function to call with the number of steps just done.
    """
    if not show:
        yield lambda steps, note="": None
        return
    if not sys.stderr.isatty():
        yield _lines(description, total, done)
        return
    note = TextColumn("{task.fields[note]}")
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), note]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        yield lambda steps, note="": progress.update(task, advance=steps, note=note)


def _lines(description: str, total: int, done: int) -> Advance:
    """Where nobody watches, in a log: a line every half a minute, and one at the end."""
    start = last = time.monotonic()
    before = done

    def advance(steps: int, note: str = "", /) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= _EVERY or done == total:
            last = now
            rate = (done - before) / max(now - start, 1e-9)
            left = timedelta(seconds=round((total - done) / rate)) if rate else "?"
            say(", ".join([f"{description}: {done:,} of {total:,}, {rate:.1f}/s, {left} left", *filter(None, [note])]), True)

    return advance


def say(sentence: str, show: bool) -> None:
    """A sentence on standard error, among the bars."""
    if show:
        print(sentence, file=sys.stderr, flush=True)
