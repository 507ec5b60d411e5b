"""What is at which address."""

from collections.abc import Sequence
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from deconvnet.errors import DeconvnetError
from deconvnet.explorer import static_files as files
from deconvnet.explorer.models import Ready, Served
from deconvnet.explorer.responses import (
    UNEXPECTED,
    Gone,
    Refusal,
    json_answer,
    refused,
)
from deconvnet.explorer.routes import add_photo_routes
from deconvnet.explorer.upload_cache import UploadCache
from deconvnet.explorer.uploads import Uploads
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
