"""The addresses below /api/photos: what can be asked about an uploaded image."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from deconvnet.experiments.fig7_occlusion import Occluder
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.inference import ImageAnalysis, analyse, feature_map, feature_map_json, projection_pixels
from deconvnet.explorer.occlusion_stream import (
    OcclusionStream,
    OcclusionSweep,
    clip_rectangle,
    default_layer,
    occlude_rectangle,
)
from deconvnet.explorer.responses import RequestError, ServerBusy, json_response, png_response
from deconvnet.explorer.worker import wait_for_disconnect

T = TypeVar("T")

#: Occlusion maps that are made at a time; each keeps all activations of one image.
MAX_STREAMS = 4

_MAX_INTEGER = 1_000_000
Index = Annotated[int, Path(ge=0, le=_MAX_INTEGER)]
OptionalIndex = Annotated[int | None, Query(ge=0, le=_MAX_INTEGER)]


class Rectangle(BaseModel):
    """A rectangle in pixels of the view; it may reach beyond the view, and is clipped to it."""

    model_config = ConfigDict(strict=True, extra="forbid")
    left: int = Field(ge=-_MAX_INTEGER, le=_MAX_INTEGER)
    top: int = Field(ge=-_MAX_INTEGER, le=_MAX_INTEGER)
    width: int = Field(ge=1, le=_MAX_INTEGER)
    height: int = Field(ge=1, le=_MAX_INTEGER)


class OcclusionRequest(BaseModel):
    """The occluder of an occlusion map, and which unit and class to follow."""

    model_config = ConfigDict(strict=True, extra="forbid")
    size: int = Field(50, ge=1, le=_MAX_INTEGER)
    stride: int = Field(6, ge=1, le=_MAX_INTEGER)
    layer: str | None = Field(None, max_length=1000)
    unit: int | None = Field(None, ge=0, le=_MAX_INTEGER)
    class_index: int | None = Field(None, ge=0, le=_MAX_INTEGER, alias="class")


class ImageRequest:
    """A request about one uploaded image and one network."""

    def __init__(self, explorer: Explorer, token: str, key: str, request: Request) -> None:
        """Raises `RequestError` (404) if there is no such image or no such network."""
        model = explorer.model(key)
        if model.loaded is None:
            raise RequestError(404, model.unavailable_reason or "This network is not here.")
        self.loaded = model.loaded
        self.image = explorer.upload_cache.find(token)
        self.x = self.image.inputs[model.loaded]
        self.explorer, self.request = explorer, request

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in the networks' thread, unless the client disconnects first, and return its result."""
        return await self.explorer.worker.run(function, wait_for_disconnect(self.request))

    def analysis(self) -> ImageAnalysis:
        """The network's analysis of the image, computed once and kept with it. Call it in the networks' thread."""
        analyses = self.image.analyses
        if self.loaded not in analyses:
            analyses[self.loaded] = analyse(self.loaded, self.x, self.explorer.worker.check_cancelled)
        return analyses[self.loaded]

    def check_unit(self, layer: str, unit: int = 0) -> None:
        """Raise `RequestError` (404) if the network has no such layer or unit."""
        layers = self.loaded.network.layers
        if layer not in layers:
            raise RequestError(404, f"{self.loaded.network.full_name} has no layer {layer[:80]!r}.")
        if unit >= layers[layer].units:
            raise RequestError(404, f"{layer} has the units 0 to {layers[layer].units - 1}, not {unit}.")

    def position(self, layer: str, row: int | None, column: int | None) -> tuple[int, int] | None:
        """A position in a layer's maps; None if neither row nor column is given.

        Raises `RequestError`: 422 if only one of them is given, 404 for a position outside of the maps.
        """
        if row is None or column is None:
            if row is not column:
                raise RequestError(422, "A place is a row and a column: pass both, or neither for the strongest.")
            return None
        rows, columns = self.loaded.network.layer(layer).map_size
        if row >= rows or column >= columns:
            raise RequestError(404, f"The maps of {layer} have {rows} rows and {columns} columns.")
        return row, column


def add_image_routes(app: FastAPI, explorer: Explorer) -> None:
    """Add /api/photos and all addresses below it."""
    path = "/api/photos/{token}/{key}"

    @app.post("/api/photos")
    async def upload(request: Request) -> Response:
        image = await explorer.upload_reader.read(request)
        return json_response({"photo": explorer.upload_cache.add(image)}, 201)

    @app.get(path)
    async def analysis(token: str, key: str, request: Request) -> Response:
        query = ImageRequest(explorer, token, key, request)
        result = query.image.analyses.get(query.loaded)
        if result is None:
            result = await query.run(query.analysis)
        return json_response(result.as_json(query.loaded))

    @app.get(path + "/view.png")
    async def view(token: str, key: str, request: Request) -> Response:
        query = ImageRequest(explorer, token, key, request)
        preprocessing = query.loaded.network.preprocessing
        return await run_in_threadpool(lambda: png_response(preprocessing.denormalise(query.x[None])[0]))

    @app.get(path + "/layers/{layer}/{unit}")
    async def unit_map(token: str, key: str, layer: str, unit: Index, request: Request) -> Response:
        query = ImageRequest(explorer, token, key, request)
        query.check_unit(layer, unit)
        analysis = query.image.analyses.get(query.loaded)
        values = analysis.feature_map(layer, unit) if analysis else None
        if values is None:
            values = await query.run(lambda: feature_map(query.loaded, query.x, layer, unit))
        return json_response(await run_in_threadpool(feature_map_json, layer, unit, values))

    @app.get(path + "/layers/{layer}/{unit}/projection.png")
    async def projection(
        token: str,
        key: str,
        layer: str,
        unit: Index,
        request: Request,
        row: OptionalIndex = None,
        column: OptionalIndex = None,
    ) -> Response:
        query = ImageRequest(explorer, token, key, request)
        query.check_unit(layer, unit)
        position = query.position(layer, row, column)
        pixels = await query.run(lambda: projection_pixels(query.loaded, query.x, layer, unit, position))
        return await run_in_threadpool(png_response, pixels)

    @app.post(path + "/occluded")
    async def occluded(token: str, key: str, rectangle: Rectangle, request: Request) -> Response:
        query = ImageRequest(explorer, token, key, request)
        crop = query.loaded.network.preprocessing.crop
        box = clip_rectangle(rectangle.left, rectangle.top, rectangle.width, rectangle.height, crop)
        return json_response(await query.run(lambda: occlude_rectangle(query.loaded, query.x, query.analysis(), box)))

    @app.post(path + "/occlusion")
    async def occlusion(token: str, key: str, options: OcclusionRequest, request: Request) -> Response:
        query = ImageRequest(explorer, token, key, request)
        layer = options.layer if options.layer is not None else default_layer(query.loaded)
        query.check_unit(layer, options.unit or 0)
        if explorer.stream_count >= MAX_STREAMS:
            raise ServerBusy

        def start() -> tuple[OcclusionSweep, dict[str, Any]]:
            occluder = Occluder(options.size, options.stride)
            sweep = OcclusionSweep(
                query.loaded, query.x, query.analysis(), occluder, layer, options.unit, options.class_index
            )
            return sweep, sweep.start()

        def end() -> None:
            explorer.stream_count -= 1

        explorer.stream_count += 1
        try:
            sweep, first_line = await query.run(start)
        except BaseException:
            end()
            raise
        return OcclusionStream(explorer.worker, sweep, first_line, end)
