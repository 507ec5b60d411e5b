"""The one thread in which networks run: first come, first served."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

from deconvnet.explorer.responses import Busy, Gone

T = TypeVar("T")

#: Seconds after which one that must not be turned away asks again.
_PATIENCE = 0.1


class _Job:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.answer: Future[Any] = Future()
        self.abandoned = threading.Event()


class Worker:
    """Runs functions one at a time, in the order in which they come."""

    def __init__(self, most_waiting: int = 32, name: str = "network") -> None:
        self.most_waiting = most_waiting
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        # A daemon, because some steps cannot be interrupted, and the program must be able to end all the same.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def there(self) -> int:
        """How many functions run or wait."""
        return len(self._waiting) + (self._running is not None)

    async def run(self, function: Callable[[], T], gone: Coroutine[Any, Any, None] | None = None) -> T:
        """What `function` returns. It is not called once `gone` has ended, or this is cancelled, while it waits.

        Raises `Busy` if too many wait, `Gone` if `gone` ends first or the worker is closed.
        """
        run_intercepted = asyncio.ensure_future(gone) if gone is not None else None
        job = _Job(function)
        try:
            with self._changed:
                if self._closed:
                    raise Gone
                if self.there > self.most_waiting:  # one of them runs
                    raise Busy
                self._waiting.append(job)
                self._changed.notify()
            answer = asyncio.wrap_future(job.answer)
            ends: list[asyncio.Future[Any]] = [answer] if run_intercepted is None else [answer, run_intercepted]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or answer.cancelled():
                raise Gone
            result: T = answer.result()
            return result
        finally:
            self._abandon(job)
            if run_intercepted is not None:
                run_intercepted.cancel()

    async def run_patiently(self, function: Callable[[], T]) -> T:
        """As `run`, for a part of something that has begun: where too many wait, it tries again."""
        while True:
            try:
                return await self.run(function)
            except Busy:
                await asyncio.sleep(_PATIENCE)

    def check(self) -> None:
        """Called between the steps of a function: ends it with `Gone` if nobody waits for its result any more."""
        if self._running is not None and self._running.abandoned.is_set():
            raise Gone

    def close(self) -> None:
        """Drop all that waits, and let what runs end at its next step."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._changed.notify()
        for job in jobs:
            self._abandon(job)

    def join(self, seconds: float) -> None:
        """Wait for what runs to end, after `close`."""
        self._thread.join(seconds)

    def _abandon(self, job: _Job) -> None:
        """Nobody waits for it any more: what it holds is freed, unless it runs."""
        job.abandoned.set()
        job.answer.cancel()
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                job = self._running = self._waiting.popleft()
            if not job.answer.set_running_or_notify_cancel():
                continue
            try:
                job.answer.set_result(job.function())
            except BaseException as error:  # is raised where it was asked for
                job.answer.set_exception(error)
            del job


async def client_gone(request: Request) -> None:
    """Ends when the client has gone. The request's body must have been read, or be empty."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
