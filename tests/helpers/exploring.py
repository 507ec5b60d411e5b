"""Asking the live page's server, in this process or over a connection."""

import asyncio
import io
import socket
import threading

import httpx
import numpy as np
from PIL import Image

from deconvnet.explorer.app import Server, listen
from deconvnet.explorer.middleware import Guard

CLASSES = [("ant", "ant"), ("bee", "bee"), ("cat", "cat, tom cat")]
OWN = "http://127.0.0.1:8000"


class Client:
    """Asks in this process, one question at a time."""

    def __init__(self, explorer, host="127.0.0.1"):
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(Guard(explorer.app, host, 8000), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=OWN)

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


def picture_bytes(kind="png", size=(50, 40), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind)
    return encoded.getvalue()


def post_photo(client, content, **headers):
    return client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream", **headers})


class Listening:
    """A real server in a thread."""

    def __init__(self, explorer):
        self.explorer = explorer
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        started = threading.Event()
        self.server = Server(explorer, "127.0.0.1", self.port, started.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        assert started.wait(20)

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
        """Send these bytes; returns the status, and all that comes back."""
        with self.connect() as connection:
            connection.sendall(text if isinstance(text, bytes) else text.encode())
            answer = read_answer(connection)
        return int(answer.split(b" ", 2)[1]) if answer else 0, answer

    def get(self, target):
        """GET this very target, which no library has made nicer."""
        return self.raw(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n")


def read_answer(connection):
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except (TimeoutError, ConnectionError):
        pass
    return received
