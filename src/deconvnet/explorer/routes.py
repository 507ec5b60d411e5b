"""What can be asked about a photo."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from torch import Tensor

from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.explorer.inference import (
    Seen,
    find_map,
    map_as_json,
    projection_pixels,
    see,
)
from deconvnet.explorer.models import Ready
from deconvnet.explorer.occlusion_stream import (
    Sweep,
    SweepStream,
    clipped,
    cover,
    default_layer,
)
from deconvnet.explorer.responses import (
    Busy,
    Refusal,
    json_answer,
    png_answer,
)
from deconvnet.explorer.uploads import UploadedImage
from deconvnet.explorer.worker import client_gone

if TYPE_CHECKING:
    from deconvnet.explorer.app import Explorer

T = TypeVar("T")

#: Occlusion maps that are made at a time; each keeps all signals of one photo.
MOST_STREAMS = 4

_LARGE = 1_000_000
Number = Annotated[int, Path(ge=0, le=_LARGE)]
Place = Annotated[int | None, Query(ge=0, le=_LARGE)]


class Rectangle(BaseModel):
    """Pixels of the view; what lies outside of it is left out."""

    model_config = ConfigDict(strict=True, extra="forbid")
    left: int = Field(ge=-_LARGE, le=_LARGE)
    top: int = Field(ge=-_LARGE, le=_LARGE)
    width: int = Field(ge=1, le=_LARGE)
    height: int = Field(ge=1, le=_LARGE)


class OcclusionRequest(BaseModel):
    """An occluder, and what is followed."""

    model_config = ConfigDict(strict=True, extra="forbid")
    size: int = Field(50, ge=1, le=_LARGE)
    stride: int = Field(6, ge=1, le=_LARGE)
    layer: str | None = Field(None, max_length=1000)
    unit: int | None = Field(None, ge=0, le=_LARGE)
    target: int | None = Field(None, ge=0, le=_LARGE, alias="class")


class Asked:
    """One photo and one network, and the way to the thread in which it runs."""

    def __init__(self, explorer: "Explorer", photo: str, key: str, request: Request) -> None:
        """Raises `Refusal` if there is no such photo or no such network."""
        entry = explorer[key]
        if entry.ready is None:
            raise Refusal(404, entry.reason or "This network is not here.")
        self.ready: Ready = entry.ready
        self.photo: UploadedImage = explorer.photos[photo]
        self.x: Tensor = self.photo.inputs[entry.ready]
        self.explorer, self.request = explorer, request

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns, in the networks' thread, while the client waits for it."""
        return await self.explorer.worker.run(function, client_gone(self.request))

    def seen(self) -> Seen:
        """What the network makes of the photo, which is kept with it. In the networks' thread."""
        if self.ready not in self.photo.seen:
            self.photo.seen[self.ready] = see(self.ready, self.x, self.explorer.worker.check)
        return self.photo.seen[self.ready]

    def check_unit(self, layer: str, unit: int = 0) -> None:
        """Raises `Refusal` (404) if the network has no such layer or unit."""
        layers = self.ready.network.layers
        if layer not in layers:
            raise Refusal(404, f"{self.ready.network.full_name} has no layer {layer[:80]!r}.")
        if unit >= layers[layer].units:
            raise Refusal(404, f"{layer} has the units 0 to {layers[layer].units - 1}, not {unit}.")

    def check_place(self, layer: str, row: int | None, column: int | None) -> tuple[int, int] | None:
        """A place in a layer's maps. Raises `Refusal`: 422 for half a place, 404 for one that is not there."""
        if row is None or column is None:
            if row is not column:
                raise Refusal(422, "A place is a row and a column: pass both, or neither for the strongest.")
            return None
        rows, columns = self.ready.network.layer(layer).map_size
        if row >= rows or column >= columns:
            raise Refusal(404, f"The maps of {layer} have {rows} rows and {columns} columns.")
        return row, column


def add_photo_routes(app: FastAPI, explorer: "Explorer") -> None:
    """Add all addresses below /api/photos."""
    below = "/api/photos/{photo}/{key}"

    @app.post("/api/photos")
    async def keep_photo(request: Request) -> Response:
        return json_answer({"photo": explorer.photos.keep(await explorer.uploads.take(request))}, 201)

    @app.get(below)
    async def look(photo: str, key: str, request: Request) -> Response:
        asked = Asked(explorer, photo, key, request)
        seen = asked.photo.seen.get(asked.ready)
        if seen is None:
            seen = await asked.run(asked.seen)
        return json_answer(seen.as_json(asked.ready))

    @app.get(below + "/view.png")
    async def view(photo: str, key: str, request: Request) -> Response:
        asked = Asked(explorer, photo, key, request)
        return await run_in_threadpool(lambda: png_answer(asked.ready.network.preprocessing.pixels(asked.x[None])[0]))

    @app.get(below + "/layers/{layer}/{unit}")
    async def feature_map(photo: str, key: str, layer: str, unit: Number, request: Request) -> Response:
        asked = Asked(explorer, photo, key, request)
        asked.check_unit(layer, unit)
        seen = asked.photo.seen.get(asked.ready)
        values = seen.map(layer, unit) if seen else None
        if values is None:
            values = await asked.run(lambda: find_map(asked.ready, asked.x, layer, unit))
        return json_answer(await run_in_threadpool(map_as_json, layer, unit, values))

    @app.get(below + "/layers/{layer}/{unit}/projection.png")
    async def projection(
        photo: str, key: str, layer: str, unit: Number, request: Request, row: Place = None, column: Place = None
    ) -> Response:
        asked = Asked(explorer, photo, key, request)
        asked.check_unit(layer, unit)
        place = asked.check_place(layer, row, column)
        pixels = await asked.run(lambda: projection_pixels(asked.ready, asked.x, layer, unit, place))
        return await run_in_threadpool(png_answer, pixels)

    @app.post(below + "/occluded")
    async def occluded(photo: str, key: str, rectangle: Rectangle, request: Request) -> Response:
        asked = Asked(explorer, photo, key, request)
        crop = asked.ready.network.preprocessing.crop
        box = clipped(rectangle.left, rectangle.top, rectangle.width, rectangle.height, crop)
        return json_answer(await asked.run(lambda: cover(asked.ready, asked.x, asked.seen(), box)))

    @app.post(below + "/occlusion")
    async def occlusion(photo: str, key: str, wanted: OcclusionRequest, request: Request) -> Response:
        asked = Asked(explorer, photo, key, request)
        followed = wanted.layer if wanted.layer is not None else default_layer(asked.ready)
        asked.check_unit(followed, wanted.unit or 0)
        if explorer.streams >= MOST_STREAMS:
            raise Busy

        def begin() -> tuple[Sweep, dict[str, Any]]:
            occluder = Occluder(wanted.size, wanted.stride)
            sweep = Sweep(asked.ready, asked.x, asked.seen(), occluder, followed, wanted.unit, wanted.target)
            return sweep, sweep.begin()

        def end() -> None:
            explorer.streams -= 1

        explorer.streams += 1
        try:
            sweep, first = await asked.run(begin)
        except BaseException:
            end()
            raise
        return SweepStream(explorer.worker, sweep, first, end)
