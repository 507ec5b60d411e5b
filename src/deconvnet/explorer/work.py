"""The one thread in which networks run: first come, first served."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from deconvnet.explorer.answers import Busy, Gone

T = TypeVar("T")

#: Seconds after which one that must not be turned away asks again.
_PATIENCE = 0.1


class Worker:
    """Runs functions one at a time, in the order in which they come."""

    def __init__(self, most_waiting: int = 32, name: str = "network") -> None:
        self.most_waiting = most_waiting
        self._thread = ThreadPoolExecutor(1, name)
        self._there = 0
        self._abandoned = threading.Event()

    async def run(self, function: Callable[[], T], gone: Coroutine[Any, Any, None] | None = None) -> T:
        """What `function` returns. It is not called once `gone` has ended, or this is cancelled, while it waits.

        Raises `Busy` if too many wait, `Gone` if `gone` ends first or the worker is closed.
        """
        watch = asyncio.ensure_future(gone) if gone is not None else None
        abandoned = threading.Event()
        try:
            if self._there > self.most_waiting:  # one of them runs
                raise Busy
            try:
                job = asyncio.wrap_future(self._thread.submit(self._do, function, abandoned))
            except RuntimeError:  # it has been closed
                raise Gone from None
            self._there += 1
            try:
                ends: list[asyncio.Future[Any]] = [job] if watch is None else [job, watch]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not job.done() or job.cancelled():
                    raise Gone
                return job.result()
            finally:
                self._there -= 1
                abandoned.set()
                job.cancel()  # if it has not begun
        finally:
            if watch is not None:
                watch.cancel()

    async def run_patiently(self, function: Callable[[], T]) -> T:
        """As `run`, for a part of something that has begun: where too many wait, it tries again."""
        while True:
            try:
                return await self.run(function)
            except Busy:
                await asyncio.sleep(_PATIENCE)

    def check(self) -> None:
        """Called between the steps of a function: ends it with `Gone` if nobody waits for its result any more."""
        if self._abandoned.is_set():
            raise Gone

    def close(self) -> None:
        """Drop all that waits, and let what runs end at its next step."""
        self._abandoned.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _do(self, function: Callable[[], T], abandoned: threading.Event) -> T:
        self._abandoned = abandoned
        return function()


async def client_gone(request: Request) -> None:
    """Ends when the client has gone. The request's body must have been read, or be empty."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
