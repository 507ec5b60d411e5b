"""Send requests to the live page's server, in this process or over a connection."""

import asyncio
import io
import socket
import threading
import time

import httpx
import numpy as np
from PIL import Image

from deconvnet.explorer.app import create_app
from deconvnet.explorer.middleware import RequestGuard
from deconvnet.explorer.server import ExplorerServer, listen

CLASSES = [("ant", "ant"), ("bee", "bee"), ("cat", "cat, tom cat")]
ORIGIN = "http://127.0.0.1:8000"


class Client:
    """Sends requests in this process, one at a time."""

    def __init__(self, explorer, host="127.0.0.1"):
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(RequestGuard(create_app(explorer), host, 8000), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=ORIGIN)

    def request(self, method, address, **options):
        return self._loop.run_until_complete(self._client.request(method, address, **options))

    def get(self, address, **options):
        return self.request("GET", address, **options)

    def post(self, address, **options):
        return self.request("POST", address, **options)

    def close(self):
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def image_bytes(format="png", size=(50, 40), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format)
    return encoded.getvalue()


def upload_image(client, content, **headers):
    return client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream", **headers})


class RunningServer:
    """A real server, in a thread."""

    def __init__(self, explorer):
        self.explorer = explorer
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        started = threading.Event()
        self.server = ExplorerServer(explorer, "127.0.0.1", self.port, started.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        assert started.wait(20)

    def wait_for_warm_up(self):
        """Wait until the worker has no jobs but those of requests."""
        end = time.monotonic() + 20
        while not self.server._warm_up.done():
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.01)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def raw(self, text):
        """Send these bytes; returns the status and the whole response."""
        with self.connect() as connection:
            connection.sendall(text if isinstance(text, bytes) else text.encode())
            response = read_response(connection)
        return int(response.split(b" ", 2)[1]) if response else 0, response

    def get(self, target):
        """GET exactly this target: HTTP libraries would normalise it."""
        return self.raw(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n")


def read_response(connection):
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except (TimeoutError, ConnectionError):
        pass
    return received
