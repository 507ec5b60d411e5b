"""What is at which address."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.explorer import static_files as files
from deconvnet.explorer.inference import projection_pixels, see
from deconvnet.explorer.middleware import Guard
from deconvnet.explorer.models import Ready, Served
from deconvnet.explorer.occlusion_stream import Sweep, default_layer
from deconvnet.explorer.responses import (
    UNEXPECTED,
    Gone,
    Refusal,
    json_answer,
    refused,
)
from deconvnet.explorer.routes import add_photo_routes
from deconvnet.explorer.uploads import UploadCache, Uploads
from deconvnet.explorer.worker import Worker


class Explorer:
    """All that answers have to do with."""

    def __init__(self, served: Sequence[Served]) -> None:
        self.served = {entry.key: entry for entry in served}
        self.ready: list[Ready] = list({id(entry.ready): entry.ready for entry in served if entry.ready}.values())
        self.worker, self.uploads, self.photos = Worker(), Uploads(self.ready), UploadCache()
        self.streams = 0
        self.app = _app(self)

    def close(self) -> None:
        """Drop what waits."""
        self.worker.close()
        self.uploads.decoder.close()

    def join(self, seconds: float) -> None:
        """Wait, after `close`, for what cannot be interrupted."""
        self.worker.join(seconds)
        self.uploads.decoder.join(seconds)

    def __getitem__(self, key: str) -> Served:
        """Raises `Refusal` (404) if nothing of that name is served."""
        if key not in self.served:
            raise Refusal(404, f"No atlas and no network here is called {key[:80]!r}.")
        return self.served[key]


def _app(explorer: Explorer) -> FastAPI:
    app = FastAPI(title="deconvnet", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_pages(app, explorer)
    add_photo_routes(app, explorer)

    described = [entry.as_json() for entry in explorer.served.values()]

    @app.get("/api/networks")
    async def networks() -> Response:
        return json_answer(described)

    _add_errors(app)
    return app


def _add_pages(app: FastAPI, explorer: Explorer) -> None:
    live, shared = files.live_pages(), files.shared_pages()
    folders = {key: entry.book.folder for key, entry in explorer.served.items() if entry.book}
    atlases = {
        key: files.atlas_pages(folder, [other for other in folders if other != key], f"/?network={quote(key)}")
        for key, folder in folders.items()
    }

    @app.get("/")
    async def index() -> Response:
        return await live.find("index.html") or _nothing()

    @app.get("/live/{file}")
    async def live_file(file: str) -> Response:
        return await live.find(file) or _nothing()

    @app.get("/shared/{file}")
    async def shared_file(file: str) -> Response:
        return await shared.find(file) or _nothing()

    @app.get("/atlas/{key}")
    @app.get("/atlas/{key}/")
    async def atlas(key: str) -> Response:
        if explorer[key].book is None:
            return _nothing()
        return RedirectResponse(f"/atlas/{key}/index.html", 307)

    @app.get("/atlas/{key}/{path:path}")
    async def atlas_file(key: str, path: str) -> Response:
        book = explorer[key].book
        if book is None:
            return _nothing()
        if path.endswith(files.PICTURES):
            return await run_in_threadpool(files.picture, book.folder, path) or _nothing()
        return await atlases[key].find(path) or _nothing()


def _nothing() -> Response:
    return refused(Refusal(404, "There is nothing at this address."))


def _add_errors(app: FastAPI) -> None:
    """Every error as {"error": one sentence}."""

    @app.exception_handler(Refusal)
    async def on_refusal(request: Request, error: Refusal) -> Response:
        return refused(error)

    @app.exception_handler(Gone)
    async def on_gone(request: Request, error: Gone) -> Response:
        return refused(Refusal(503, "The server is being stopped."))  # or nobody is there to read this

    @app.exception_handler(DeconvnetError)
    async def on_error(request: Request, error: DeconvnetError) -> Response:
        return refused(Refusal(422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "The question"
        return refused(Refusal(422, f"{where[:80]} is not understood: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        sentences = {404: "There is nothing at this address.", 405: f"This address does not take {request.method}."}
        sentence = sentences.get(error.status_code, "This question is not understood.")
        return refused(Refusal(error.status_code, sentence, error.headers))

    @app.exception_handler(Exception)
    async def on_failure(request: Request, error: Exception) -> Response:
        return refused(Refusal(500, UNEXPECTED))  # starlette raises it again, for the server's log


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
