"""Listening, until Ctrl-C."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deconvnet.errors import UsageError
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.explorer.app import Explorer
from deconvnet.explorer.inference import projection_pixels, see
from deconvnet.explorer.middleware import Guard
from deconvnet.explorer.models import Ready, Served
from deconvnet.explorer.occlusion_stream import Sweep, default_layer

#: The port that is tried first where none is asked for, and how many after it.
PORT, MORE_PORTS = 8000, 20

#: Connections at a time; what a browser leaves open counts for some seconds.
_CONNECTIONS = 100

#: Seconds that a connection may take for the head of a question.
_SILENCE = 10.0


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at `host`. Without a `port` it is the first of 8000 and the next 20 that is free.

    Raises `UsageError` if the port is taken or there is no such host.
    """
    ports = range(PORT, PORT + MORE_PORTS + 1) if port is None else [port]
    for candidate in ports:
        try:
            found = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError):
            raise UsageError(f"There is no host {host!r} to listen at: pass --host 127.0.0.1.") from None
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # a port that is bound but not listened at would not be taken yet
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"It is not possible to listen at {host}, port {candidate}: {error.strerror}.") from None
    if port is None:
        raise UsageError(f"The ports {PORT} to {PORT + MORE_PORTS} are all taken: pass another --port.")
    raise UsageError(f"Port {port} is taken: pass another --port, or none, and a free one is found.")


def serve(served: Sequence[Served], listener: socket.socket, host: str, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which then act as they did before. `say` is given the address, once it answers."""
    # At its first gradient torch imports a computer algebra system, which takes longer than all else that is done first.
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(one * one, one, torch.ones(1))
    explorer = Explorer(served)
    port = listener.getsockname()[1]
    server = Server(explorer, host, port, lambda: say(f"http://{_in_address(host)}:{port}/"))
    try:
        server.run(sockets=[listener])
    finally:
        explorer.join(1)


class Impatient(H11Protocol):
    """uvicorn's way of speaking HTTP, which gives up on a connection that does not get a question together."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(_SILENCE, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which warms the networks up once it listens, and at its end waits for nobody."""

    def __init__(self, explorer: Explorer, host: str, port: int, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                Guard(explorer.app, host, port),
                http=Impatient,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self.explorer, self._say = explorer, started
        self._warming: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._warming = asyncio.create_task(warm_up(self.explorer))
            self._say()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._warming is not None:
            self._warming.cancel()
        self.explorer.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


async def warm_up(explorer: Explorer) -> None:
    """Do once what is slow the first time, each step behind those who already wait."""
    for ready in explorer.ready:
        x = torch.zeros(3, ready.network.preprocessing.crop, ready.network.preprocessing.crop)
        steps: list[Callable[[], object]] = [partial(see, ready, x)]
        steps += [partial(projection_pixels, ready, x, layer, 0, None) for layer in ready.network.layers]
        steps += [partial(_sweep_a_little, ready, x)]
        for step in steps:
            with suppress(Exception):  # whoever asks for it is told
                await explorer.worker.run_patiently(step)


def _sweep_a_little(ready: Ready, x: torch.Tensor) -> None:
    size = min(8, ready.network.preprocessing.crop)
    sweep = Sweep(ready, x, see(ready, x), Occluder(size, size), default_layer(ready))
    sweep.begin()
    sweep.step()


def _in_address(host: str) -> str:
    """The host as it stands in an address that can be opened on this machine."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
