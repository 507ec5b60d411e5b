"""Listen and serve, until Ctrl-C."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
import uvicorn
from torch import Tensor
from uvicorn.protocols.http.h11_impl import H11Protocol

from deconvnet.errors import UsageError
from deconvnet.experiments.fig7_occlusion import Occluder
from deconvnet.explorer.app import create_app
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.inference import analyse, projection_pixels
from deconvnet.explorer.middleware import RequestGuard
from deconvnet.explorer.occlusion_stream import OcclusionSweep, default_layer
from deconvnet.explorer.served_networks import LoadedNetwork, ServedModel

#: The port that is tried first if none is given, and how many after it.
DEFAULT_PORT, EXTRA_PORTS = 8000, 20

#: Connections at a time; those that a browser leaves open count for some seconds.
_MAX_CONNECTIONS = 100

#: Seconds that a connection may take to send the head of a request.
_REQUEST_HEAD_SECONDS = 10.0


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at `host`. Without a `port` it is the first free one of 8000 and the next 20.

    Raises `UsageError` if the port is taken or there is no such host.
    """
    ports = range(DEFAULT_PORT, DEFAULT_PORT + EXTRA_PORTS + 1) if port is None else [port]
    for candidate in ports:
        try:
            addresses = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError):
            raise UsageError(f"There is no host {host!r} to listen at: pass --host 127.0.0.1.") from None
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere the option would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # with SO_REUSEADDR a port is taken only once it is listened at
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"It is not possible to listen at {host}, port {candidate}: {error.strerror}.") from None
    if port is None:
        raise UsageError(f"The ports {DEFAULT_PORT} to {DEFAULT_PORT + EXTRA_PORTS} are all taken: pass another --port.")
    raise UsageError(f"Port {port} is taken: pass another --port, or none, and a free one is found.")


def serve(models: Sequence[ServedModel], listener: socket.socket, host: str, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which then act as before. `on_ready` gets the URL once requests are answered."""
    explorer = Explorer(models)
    port = listener.getsockname()[1]
    server = ExplorerServer(explorer, host, port, lambda: on_ready(f"http://{_url_host(host)}:{port}/"))
    try:
        server.run(sockets=[listener])
    finally:
        explorer.join(1)


class TimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes a connection that takes too long to send the head of a request."""

    _timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._start_timeout()
        elif self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        super().connection_lost(exc)

    def _start_timeout(self) -> None:
        if self._timeout is None:
            self._timeout = self.loop.call_later(_REQUEST_HEAD_SECONDS, self._close)

    def _close(self) -> None:
        self._timeout = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class ExplorerServer(uvicorn.Server):
    """uvicorn's server, which warms up the networks once it listens and stops without waiting for open connections."""

    def __init__(self, explorer: Explorer, host: str, port: int, on_ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                RequestGuard(create_app(explorer), host, port),
                http=TimeoutProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self.explorer, self._on_ready = explorer, on_ready
        self._warm_up: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._warm_up = asyncio.create_task(warm_up(self.explorer))
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
        self.explorer.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


async def warm_up(explorer: Explorer) -> None:
    """Run once what is slow the first time; requests that wait already come before each step."""
    for loaded in explorer.networks:
        crop = loaded.network.preprocessing.crop
        x = torch.zeros(3, crop, crop)
        steps: list[Callable[[], object]] = [partial(analyse, loaded, x)]
        steps += [partial(projection_pixels, loaded, x, layer, 0, None) for layer in loaded.network.layers]
        steps += [partial(_run_one_occlusion_batch, loaded, x)]
        for step in steps:
            with suppress(Exception):  # it will be reported to whoever requests it
                await explorer.worker.run_retrying(step)


def _run_one_occlusion_batch(loaded: LoadedNetwork, x: Tensor) -> None:
    size = min(8, loaded.network.preprocessing.crop)
    sweep = OcclusionSweep(loaded, x, analyse(loaded, x), Occluder(size, size), default_layer(loaded))
    sweep.start()
    sweep.run_batch()


def _url_host(host: str) -> str:
    """The host as it stands in a URL that can be opened on this machine."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
