"""What is sent: JSON, PNG, and refusals of one sentence."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import Response

#: What is said of an error that should not be; its traceback is logged.
UNEXPECTED = "Something went wrong here that should not: where deconvnet explore was started it says what."


class Refusal(Exception):
    """A request that is not answered as it was meant."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


class Busy(Refusal):
    """Too much is being done already."""

    def __init__(self) -> None:
        super().__init__(503, "Too much is being asked at once: try again in a second.", {"Retry-After": "1"})


class Gone(Exception):
    """The client has gone, so there is nobody to answer."""


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON in ASCII, which also holds names that are not Unicode."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def refused(refusal: Refusal) -> Response:
    """{"error": the sentence} with the refusal's status."""
    return json_answer({"error": refusal.sentence}, refusal.status, refusal.headers)


def png_answer(pixels: np.ndarray) -> Response:
    """Pixels (H, W, 3) uint8 as a picture. A photo's token is never given again, so what is behind it does not change."""
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "png", compress_level=1)
    return Response(encoded.getvalue(), headers={"Cache-Control": "private, max-age=3600"}, media_type="image/png")


def significant(value: float, digits: int = 6) -> float | None:
    """A number as short as its digits allow; None for what JSON does not know."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
