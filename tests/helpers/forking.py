"""Fork children of a program that has torch imported already: safe only where no thread was ever started."""

import os
import socket
import traceback
from collections.abc import Callable


def fork(count: int, work: Callable[[int], None]) -> list[int]:
    """Start `count` children that call `work(rank)`, together as `torchrun` would start them; returns their process ids.

    A child ends with status 0, or 1 if `work` raises.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(count):
        pids.append(os.fork())
        if not pids[-1]:
            code = 1
            try:
                if count > 1:
                    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
                    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                work(rank)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    return pids
