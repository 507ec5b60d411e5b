"""Who is answered, decided before anything is read.

A server on one's own machine can be reached by every page that one's browser has open. A page of another origin is turned
away by its `Origin` and `Sec-Fetch-Site`, and one that had its own name resolved to this machine by `Host`. What a form can
send across origins, no address takes.
"""

import re
import socket
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deconvnet.explorer.responses import Gone, Refusal, refused
from deconvnet.explorer.uploads import Limit

#: Where the one address is that takes something other than JSON.
UPLOADS = "/api/photos"

#: Of a question in JSON.
QUESTION = Limit(
    64 * 1024,
    too_large="A question has at most 64 kB.",
    too_slow="This question took longer than 30 seconds to arrive.",
)

_HOST = re.compile(r"(\[(?P<address>[^\]]*)\]|(?P<name>[^:]*))(:\d{1,5})?")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI app around another one."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """`host` and `port` are where the server listens."""
        self.app, self.port = app, port
        self.names = {"127.0.0.1", "localhost", "::1", host.lower()}
        self.open = not is_loopback(host)
        if self.open:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check(scope, headers)
            if scope["method"] == "POST" and scope["path"] != UPLOADS:
                receive = await _read_json(headers, receive)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send_with_headers)
            return
        except Gone:
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            raise Refusal(421, f"This server answers to http://localhost:{self.port}/ and not to another name.")
        method, path = scope["method"], scope["path"]
        if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
            raise Refusal(403, "Pages of other origins are not answered.")
        navigates = (
            method == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and not path.startswith("/api/")
        )
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")) and not navigates:
            raise Refusal(403, "Pages of other origins are not answered.")
        if method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, f"{method} is not understood here.", {"Allow": "GET, HEAD, POST"})
        wanted = "application/octet-stream" if path == UPLOADS else "application/json"
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
            raise Refusal(415, f"What is sent to this address has the Content-Type {wanted}.")

    def _is_own(self, host: str) -> bool:
        """Whether a name in `Host` is one of this machine's. The port is not looked at, as it may have been forwarded."""
        found = _HOST.fullmatch(host)
        name = (found["address"] or found["name"]).lower() if found else ""
        return name in self.names or (self.open and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def _read_json(headers: Headers, receive: Receive) -> Receive:
    """Read the whole body; returns a `receive` that gives it again, and then what comes after it."""
    QUESTION.check(headers)
    read: list[Message] = [{"type": "http.request", "body": await QUESTION.read(receive), "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return again
