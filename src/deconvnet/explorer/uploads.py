"""From the bytes that a browser sends to a photo, with limits on all that it may cost."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive
from torch import Tensor

from deconvnet.data import UnreadableImage, read_image
from deconvnet.explorer.inference import Seen
from deconvnet.explorer.models import Ready
from deconvnet.explorer.responses import Busy, Gone, Refusal
from deconvnet.explorer.worker import Worker, client_gone

#: Photos that are kept; the one that was used longest ago goes first.
MAX_IMAGES = 32


@dataclass(frozen=True)
class UploadedImage:
    """One photo."""

    inputs: dict[Ready, Tensor]
    """What each network is shown, (3, crop, crop)."""
    seen: dict[Ready, Seen] = field(default_factory=dict)
    """What each has made of it so far; written in the networks' thread."""


class UploadCache:
    """The photos that are kept, by token."""

    def __init__(self) -> None:
        self._photos: OrderedDict[str, UploadedImage] = OrderedDict()

    def keep(self, photo: UploadedImage) -> str:
        """Keep a photo; returns its token."""
        token = secrets.token_urlsafe(16)
        self._photos[token] = photo
        while len(self._photos) > MAX_IMAGES:
            self._photos.popitem(last=False)
        return token

    def __getitem__(self, token: str) -> UploadedImage:
        """Raises `Refusal` (404) if there is no such photo."""
        if token not in self._photos:
            raise Refusal(404, "This photo is not here any more: choose it again.")
        self._photos.move_to_end(token)
        return self._photos[token]


@dataclass(frozen=True)
class Limit:
    """What the body of a request may cost, and the sentences for those that cost more."""

    size: int
    """Bytes."""
    too_large: str
    too_slow: str
    seconds: float = 30.0
    """From when it is read to its end."""

    def check(self, headers: Headers) -> None:
        """Raises `Refusal` if a body is announced that is too large."""
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.size:
            raise Refusal(413, self.too_large)

    async def read(self, receive: Receive) -> bytes:
        """The whole body, of which never more than `size` is kept.

        Raises `Refusal` for one that is too large or too slow, `Gone` if the client leaves before its end.
        """
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self.seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > self.size:
                        raise Refusal(413, self.too_large)
                    body += chunk
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(408, self.too_slow, {"Connection": "close"}) from None
        return bytes(body)


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
