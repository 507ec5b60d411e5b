"""Work done by threads before its results are asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    make: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    most: int,
    begin: Callable[[], None] | None = None,
) -> Generator[Result]:
    """`make` of each item, in order, by so many threads; at most `most` are under way or wait while one is being used.

    Each thread calls `begin` first. What `make` raises comes in its turn. Close the generator, or what is under way goes on
    for a while after an error.
    """
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(make, item))
                if len(ahead) > most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
