"""From the bytes that a browser sends to a photo, with limits on all that it may cost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.requests import Request

from deconvnet.data import UnreadableImage, read_image
from deconvnet.explorer.bodies import Limit
from deconvnet.explorer.models import Ready
from deconvnet.explorer.responses import Busy, Refusal
from deconvnet.explorer.upload_cache import UploadedImage
from deconvnet.explorer.worker import Worker, client_gone

#: Of one file.
FILE = Limit(
    32 * 2**20,
    too_large="This file is larger than 32 MiB: choose a smaller one.",
    too_slow="This file took longer than 30 seconds to arrive: try again.",
)

#: Files that are read or decoded at a time …
AT_ONCE = 3

#: … and those that may wait for that; their bytes are not read meanwhile.
MOST_WAITING = 16


class Uploads:
    """Reads photos for the networks that are `ready`."""

    def __init__(self, ready: Sequence[Ready]) -> None:
        self._ready = ready
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self.decoder = Worker(AT_ONCE, "decoder")  # a large photo takes hundreds of megabytes: one at a time

    async def take(self, request: Request) -> UploadedImage:
        """The photo that is the request's body.

        Raises `Refusal` for a file that is too large, too slow or no image, `Busy` if too many come at once, and `Gone`.
        """
        FILE.check(request.headers)
        async with self._place():
            content = await FILE.read(request.receive)
            return await self.decoder.run(lambda: self._decode(content), client_gone(request))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _decode(self, content: bytes) -> UploadedImage:
        try:
            photo = read_image(content)
            return UploadedImage({ready: ready.network.preprocess(photo) for ready in self._ready})
        except UnreadableImage as error:
            raise Refusal(422, f"This file {error}.") from None
        except MemoryError:
            raise Refusal(503, "This machine has too little memory for this photo: choose a smaller one.") from None
