"""Reject requests that must not be answered, before anything else is read.

A server on the user's machine can be reached by every page that is open in the user's browser. `Origin` and `Sec-Fetch-Site`
give away pages of other origins; `Host` gives away a page whose own host name was made to resolve to this machine (DNS
rebinding). No address takes a content type that an HTML form can send across origins.
"""

import re
import socket
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deconvnet.explorer.responses import RequestCancelled, RequestError, error_response
from deconvnet.explorer.uploads import BodyLimit

#: The only address that takes a body other than JSON.
UPLOAD_PATH = "/api/photos"

#: For bodies in JSON.
JSON_LIMIT = BodyLimit(
    64 * 1024,
    too_large="A question has at most 64 kB.",
    too_slow="This question took longer than 30 seconds to arrive.",
)

_HOST_HEADER = re.compile(r"(\[(?P<address>[^\]]*)\]|(?P<name>[^:]*))(:\d{1,5})?")

_SECURITY_HEADERS = {
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


class RequestGuard:
    """ASGI middleware: checks a request's host, origin, method and content type, and adds security headers to responses.

    A POST with JSON reaches the app with its body read, within `JSON_LIMIT`.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """`host` and `port` are where the server listens."""
        self.app, self.port = app, port
        self.host_names = {"127.0.0.1", "localhost", "::1", host.lower()}
        self.is_public = not is_loopback(host)
        if self.is_public:
            self.host_names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check(scope, headers)
            if scope["method"] == "POST" and scope["path"] != UPLOAD_PATH:
                receive = await _read_json_body(headers, receive)
        except RequestError as error:
            await error_response(error)(scope, receive, send_with_headers)
            return
        except RequestCancelled:
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise `RequestError` for a request that must not be answered."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_this_server(hosts[0]):
            raise RequestError(421, f"This server answers to http://localhost:{self.port}/ and not to another name.")
        method, path = scope["method"], scope["path"]
        if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
            raise RequestError(403, "Pages of other origins are not answered.")
        is_navigation = (  # a link on another page may lead here
            method == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and not path.startswith("/api/")
        )
        sites = headers.getlist("sec-fetch-site")
        if any(site not in ("same-origin", "none") for site in sites) and not is_navigation:
            raise RequestError(403, "Pages of other origins are not answered.")
        if method not in ("GET", "HEAD", "POST"):
            raise RequestError(405, f"{method} is not understood here.", {"Allow": "GET, HEAD, POST"})
        content_type = "application/octet-stream" if path == UPLOAD_PATH else "application/json"
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != content_type:
            raise RequestError(415, f"What is sent to this address has the Content-Type {content_type}.")

    def _is_this_server(self, host: str) -> bool:
        """Whether a `Host` header names this machine. Any port is accepted, as it may have been forwarded."""
        match = _HOST_HEADER.fullmatch(host)
        name = (match["address"] or match["name"]).lower() if match else ""
        return name in self.host_names or (self.is_public and _is_ip_address(name))


def _is_ip_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def _read_json_body(headers: Headers, receive: Receive) -> Receive:
    """Read the whole body; returns a `receive` that delivers it as one message, and then what follows it."""
    JSON_LIMIT.check_announced_size(headers)
    messages: list[Message] = [{"type": "http.request", "body": await JSON_LIMIT.read(receive), "more_body": False}]

    async def receive_body_first() -> Message:
        return messages.pop() if messages else await receive()

    return receive_body_first
