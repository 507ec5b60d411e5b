"""A queue of functions that run one at a time, in one thread: the networks run in one, images are decoded in another."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

from deconvnet.explorer.responses import RequestCancelled, ServerBusy

T = TypeVar("T")

#: Seconds after which `run_retrying` tries again.
_RETRY_SECONDS = 0.1


class _Job:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Future[Any] = Future()
        self.cancelled = threading.Event()


class Worker:
    """Runs functions one at a time, in the order in which they arrive."""

    def __init__(self, max_waiting: int = 32, name: str = "network") -> None:
        self.max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        # A daemon, because some steps cannot be interrupted, and the program must be able to end all the same.
        self._thread = threading.Thread(target=self._run_jobs, name=name, daemon=True)
        self._thread.start()

    @property
    def job_count(self) -> int:
        """How many functions run or wait."""
        return len(self._waiting) + (self._running is not None)

    async def run(self, function: Callable[[], T], disconnected: Coroutine[Any, Any, None] | None = None) -> T:
        """Run `function` in the thread and return its result.

        If `disconnected` ends or this coroutine is cancelled while the function waits, it is never called. Raises
        `ServerBusy` if too many wait, `RequestCancelled` if `disconnected` ends first or the worker is closed.
        """
        disconnect = asyncio.ensure_future(disconnected) if disconnected is not None else None
        job = _Job(function)
        try:
            with self._changed:
                if self._closed:
                    raise RequestCancelled
                if self.job_count > self.max_waiting:  # one of them runs
                    raise ServerBusy
                self._waiting.append(job)
                self._changed.notify()
            future = asyncio.wrap_future(job.result)
            events: list[asyncio.Future[Any]] = [future] if disconnect is None else [future, disconnect]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if not future.done() or future.cancelled():
                raise RequestCancelled
            result: T = future.result()
            return result
        finally:
            self._cancel(job)
            if disconnect is not None:
                disconnect.cancel()

    async def run_retrying(self, function: Callable[[], T]) -> T:
        """As `run`, for one step of a response that has begun: while too many wait, it tries again."""
        while True:
            try:
                return await self.run(function)
            except ServerBusy:
                await asyncio.sleep(_RETRY_SECONDS)

    def check_cancelled(self) -> None:
        """Raise `RequestCancelled` if nobody waits for the running function any more; it calls this between its steps."""
        if self._running is not None and self._running.cancelled.is_set():
            raise RequestCancelled

    def close(self) -> None:
        """Drop all waiting functions, and let the running one end at its next step."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._changed.notify()
        for job in jobs:
            self._cancel(job)

    def join(self, seconds: float) -> None:
        """Wait, after `close`, until the running function has ended, at most `seconds`."""
        self._thread.join(seconds)

    def _cancel(self, job: _Job) -> None:
        """Take a job out of the queue, so that what its function holds is freed, unless it runs."""
        job.cancelled.set()
        job.result.cancel()
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def _run_jobs(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                job = self._running = self._waiting.popleft()
            if not job.result.set_running_or_notify_cancel():
                continue
            try:
                job.result.set_result(job.function())
            except BaseException as error:  # raised again in `run`
                job.result.set_exception(error)
            del job  # or what it holds would stay in memory until the next one


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has disconnected. The request's body must have been read, or be empty."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
