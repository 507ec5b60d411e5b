"""What a client sends, read with limits on its length and on the time that it takes to arrive."""

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive

from deconvnet.explorer.responses import Gone, Refusal


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
