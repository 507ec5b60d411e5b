"""Responses: JSON, PNG, and errors of one sentence."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import Response

#: The sentence for an unexpected exception; the traceback goes to the server's log.
UNEXPECTED_ERROR = "Something went wrong here that should not: where deconvnet explore was started it says what."


class RequestError(Exception):
    """A request that is answered with an HTTP error status and one sentence."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


class ServerBusy(RequestError):
    """Too many requests are running or waiting (503)."""

    def __init__(self) -> None:
        super().__init__(503, "Too much is being asked at once: try again in a second.", {"Retry-After": "1"})


class RequestCancelled(Exception):
    """Nobody waits for the response any more: the client has disconnected, or the server is stopping."""


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON in ASCII, which can also hold names that are not valid Unicode."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def error_response(error: RequestError) -> Response:
    """{"error": the sentence} with the error's status and headers."""
    return json_response({"error": error.sentence}, error.status, error.headers)


def png_response(pixels: np.ndarray) -> Response:
    """Pixels (H, W, 3) uint8 as a PNG. It may be cached: a token stands for one image and is never used again."""
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "png", compress_level=1)
    return Response(encoded.getvalue(), headers={"Cache-Control": "private, max-age=3600"}, media_type="image/png")
