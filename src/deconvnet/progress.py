"""Progress bars with rate and time left, on standard error so that standard output stays clean for results."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "–/s")


@contextmanager
def bar(description: str, total: int, show: bool, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress bar for `total` steps, `done` of which were made in an earlier run.

    Yields the function to call with the number of steps just done.
    """
    if not show:
        yield lambda steps: None
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda steps: progress.advance(task, steps)


def say(sentence: str, show: bool) -> None:
    """A sentence on standard error, among the bars."""
    if show:
        print(sentence, file=sys.stderr, flush=True)
