"""An occlusion map on its way to the page, line by line."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deconvnet.errors import DeconvnetError
from deconvnet.explorer.occlusion_stream import Sweep
from deconvnet.explorer.responses import UNEXPECTED, Gone
from deconvnet.explorer.worker import Worker


class SweepStream(StreamingResponse):
    """Lines of JSON, computed as they are sent. When the client goes away nothing more is computed."""

    def __init__(self, worker: Worker, sweep: Sweep, first: dict[str, Any], ended: Callable[[], None]) -> None:
        """`ended` is called once this is over, however it ends."""
        self._lines = _lines(worker, sweep, first)
        self._ended = ended
        super().__init__(self._lines, headers={"Cache-Control": "no-store"}, media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
            await self._lines.aclose()


async def _lines(worker: Worker, sweep: Sweep, first: dict[str, Any]) -> AsyncGenerator[str, None]:
    yield json.dumps(first) + "\n"
    try:
        while sweep.done < sweep.positions:
            yield json.dumps(await worker.run_patiently(sweep.step)) + "\n"
    except Gone:
        return
    except DeconvnetError as error:
        yield json.dumps({"error": str(error)}) + "\n"
    except Exception:
        logging.getLogger("uvicorn.error").exception("An occlusion map could not be finished")
        yield json.dumps({"error": UNEXPECTED}) + "\n"
