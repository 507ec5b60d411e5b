"""Uploaded images: read within limits of size and time, decoded one at a time, and the last ones kept in memory."""

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
from deconvnet.explorer.inference import ImageAnalysis
from deconvnet.explorer.responses import RequestCancelled, RequestError, ServerBusy
from deconvnet.explorer.served_networks import LoadedNetwork
from deconvnet.explorer.worker import Worker, wait_for_disconnect


@dataclass(frozen=True)
class BodyLimit:
    """How large a request's body may be and how long it may take, and the sentences for one that exceeds this."""

    size: int
    """In bytes."""
    too_large: str
    too_slow: str
    seconds: float = 30.0
    """From when reading starts until the body has arrived."""

    def check_announced_size(self, headers: Headers) -> None:
        """Raise `RequestError` (413) if `Content-Length` exceeds the limit."""
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.size:
            raise RequestError(413, self.too_large)

    async def read(self, receive: Receive) -> bytes:
        """The whole body; never more than `size` bytes of it are kept.

        Raises `RequestError` if it is too large (413) or too slow (408), `RequestCancelled` if the client disconnects
        before its end.
        """
        body, more_body = bytearray(), True
        try:
            async with asyncio.timeout(self.seconds):
                while more_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestCancelled
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > self.size:
                        raise RequestError(413, self.too_large)
                    body += chunk
                    more_body = message.get("more_body", False)
        except TimeoutError:
            raise RequestError(408, self.too_slow, {"Connection": "close"}) from None
        return bytes(body)


#: For uploaded files.
UPLOAD_LIMIT = BodyLimit(
    32 * 2**20,
    too_large="This file is larger than 32 MiB: choose a smaller one.",
    too_slow="This file took longer than 30 seconds to arrive: try again.",
)

#: Uploads that are read or decoded at a time.
MAX_CONCURRENT = 3

#: Uploads that may wait for their turn; their bodies are not read meanwhile.
MAX_WAITING = 16

#: Uploaded images that are kept; the least recently used is dropped first.
MAX_IMAGES = 32


@dataclass(frozen=True)
class UploadedImage:
    """An uploaded image, as network inputs, and what networks have computed from it."""

    inputs: dict[LoadedNetwork, Tensor]
    """Each network's input (3, crop, crop)."""
    analyses: dict[LoadedNetwork, ImageAnalysis] = field(default_factory=dict)
    """Results so far; written in the networks' thread."""


class UploadReader:
    """Reads uploaded images for a number of networks."""

    def __init__(self, networks: Sequence[LoadedNetwork]) -> None:
        self._networks = networks
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting_count = 0
        self.decoder = Worker(MAX_CONCURRENT, "decoder")  # a large image takes hundreds of megabytes: one at a time

    async def read(self, request: Request) -> UploadedImage:
        """The image in the request's body.

        Raises `RequestError` for a file that is too large, too slow or no image, `ServerBusy` if too many are uploaded at
        once, and `RequestCancelled` if the client disconnects.
        """
        UPLOAD_LIMIT.check_announced_size(request.headers)
        async with self._slot():
            content = await UPLOAD_LIMIT.read(request.receive)
            return await self.decoder.run(lambda: self._decode(content), wait_for_disconnect(request))

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting_count >= MAX_WAITING:
            raise ServerBusy
        self._waiting_count += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting_count -= 1
        try:
            yield
        finally:
            self._slots.release()

    def _decode(self, content: bytes) -> UploadedImage:
        try:
            image = read_image(content)
            return UploadedImage({loaded: loaded.network.preprocess(image) for loaded in self._networks})
        except UnreadableImage as error:
            raise RequestError(422, f"This file {error}.") from None
        except MemoryError:
            raise RequestError(503, "This machine has too little memory for this photo: choose a smaller one.") from None


class UploadCache:
    """The most recently used images, by token."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, UploadedImage] = OrderedDict()

    def add(self, image: UploadedImage) -> str:
        """Keep an image; returns its token, which cannot be guessed."""
        token = secrets.token_urlsafe(16)
        self._images[token] = image
        while len(self._images) > MAX_IMAGES:
            self._images.popitem(last=False)
        return token

    def find(self, token: str) -> UploadedImage:
        """The image with this token. Raises `RequestError` (404) if there is none any more."""
        if token not in self._images:
            raise RequestError(404, "This photo is not here any more: choose it again.")
        self._images.move_to_end(token)
        return self._images[token]
