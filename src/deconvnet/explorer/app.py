"""The web app: what is at which address, and how errors are answered."""

from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from deconvnet.errors import DeconvnetError
from deconvnet.explorer import static_files
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.responses import UNEXPECTED_ERROR, RequestCancelled, RequestError, error_response, json_response
from deconvnet.explorer.routes import add_image_routes


def create_app(explorer: Explorer) -> FastAPI:
    """The web app that serves `explorer`, without the checks of `RequestGuard`."""
    app = FastAPI(title="deconvnet", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_page_routes(app, explorer)
    add_image_routes(app, explorer)

    descriptions = [model.as_json() for model in explorer.models.values()]

    @app.get("/api/networks")
    async def networks() -> Response:
        return json_response(descriptions)

    _add_error_handlers(app)
    return app


def _add_page_routes(app: FastAPI, explorer: Explorer) -> None:
    """Add the live page, the pages of atlases and their pictures."""
    live, shared = static_files.live_page_files(), static_files.shared_files()
    folders = {key: model.atlas.folder for key, model in explorer.models.items() if model.atlas}
    pages = {
        key: static_files.atlas_page_files(
            folder, [sibling for sibling in folders if sibling != key], f"/?network={quote(key)}"
        )
        for key, folder in folders.items()
    }

    @app.get("/")
    async def index() -> Response:
        return await live.find("index.html") or _not_found()

    @app.get("/live/{file}")
    async def live_file(file: str) -> Response:
        return await live.find(file) or _not_found()

    @app.get("/shared/{file}")
    async def shared_file(file: str) -> Response:
        return await shared.find(file) or _not_found()

    @app.get("/atlas/{key}")
    @app.get("/atlas/{key}/")
    async def atlas(key: str) -> Response:
        if explorer.model(key).atlas is None:
            return _not_found()
        return RedirectResponse(f"/atlas/{key}/index.html", 307)

    @app.get("/atlas/{key}/{path:path}")
    async def atlas_file(key: str, path: str) -> Response:
        atlas = explorer.model(key).atlas
        if atlas is None:
            return _not_found()
        if path.endswith(static_files.PICTURE_SUFFIXES):
            return await run_in_threadpool(static_files.atlas_picture, atlas.folder, path) or _not_found()
        return await pages[key].find(path) or _not_found()


def _not_found() -> Response:
    return error_response(RequestError(404, "There is nothing at this address."))


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with {"error": one sentence}."""

    @app.exception_handler(RequestError)
    async def on_request_error(request: Request, error: RequestError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestCancelled)
    async def on_cancelled(request: Request, error: RequestCancelled) -> Response:
        return error_response(RequestError(503, "The server is being stopped."))  # a client that has gone does not read it

    @app.exception_handler(DeconvnetError)
    async def on_deconvnet_error(request: Request, error: DeconvnetError) -> Response:
        return error_response(RequestError(422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(key) for key in first["loc"][1:]) or "The question"
        return error_response(RequestError(422, f"{name[:80]} is not understood: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        sentences = {404: "There is nothing at this address.", 405: f"This address does not take {request.method}."}
        sentence = sentences.get(error.status_code, "This question is not understood.")
        return error_response(RequestError(error.status_code, sentence, error.headers))

    @app.exception_handler(Exception)
    async def on_unexpected_error(request: Request, error: Exception) -> Response:
        return error_response(RequestError(500, UNEXPECTED_ERROR))  # starlette raises it again, for the server's log
