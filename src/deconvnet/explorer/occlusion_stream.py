"""What a network computes from an image with a part occluded: one rectangle, or a whole occlusion map, streamed."""

import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import torch
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.experiments.class_labels import class_name
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded
from deconvnet.explorer.inference import ImageAnalysis, class_probabilities
from deconvnet.explorer.responses import UNEXPECTED_ERROR, RequestCancelled, RequestError
from deconvnet.explorer.served_networks import LoadedNetwork
from deconvnet.explorer.worker import Worker
from deconvnet.formatting import json_number, json_numbers
from deconvnet.models import activation_cache
from deconvnet.tracing import ActivationCache, Box

#: Positions of the occluder in one map.
MAX_POSITIONS = 10_000

#: Classes that are compared with and without a rectangle.
_MAX_COMPARED_CLASSES = 8

#: Positions in the first batch of a map and in the largest; seconds a batch should take, so that other requests get a turn.
_FIRST_BATCH_SIZE, _MAX_BATCH_SIZE, _BATCH_SECONDS = 8, 64, 0.15


def occlude_rectangle(loaded: LoadedNetwork, x: Tensor, analysis: ImageAnalysis, box: Box) -> dict[str, Any]:
    """Classes and strongest units with and without `box`, as plain values for the page.

    `box` of the input x (3, crop, crop) is set to 0, the mean; `analysis` is that of the whole input.
    """
    network = loaded.network
    strongest = {layer: units[0] for layer, units in analysis.layers.items() if units}
    occluded_values: dict[str, float] = {}

    def collect(layer: str, maps: Tensor) -> None:
        occluded_values[layer] = float(maps[0, strongest[layer].unit].max())

    occluded_x = x[None].clone()
    occluded_x[:, :, box.top : box.bottom, box.left : box.right] = 0
    with torch.inference_mode():
        returned = network.capture(occluded_x, strongest, collect, to_end=True)
    occluded = ImageAnalysis(class_probabilities(loaded, returned), {})
    units = [
        {
            "layer": layer,
            "unit": activation.unit,
            "value": json_number(occluded_values[layer], 6),
            "before": json_number(activation.value, 6),
        }
        for layer, activation in strongest.items()
    ]
    return {"classes": _compare_classes(loaded, analysis, occluded), "units": units}


def _compare_classes(loaded: LoadedNetwork, before: ImageAnalysis, after: ImageAnalysis) -> list[dict[str, Any]] | None:
    """The most probable classes of either, by the larger of their probabilities; None if the network does not classify."""
    if before.probabilities is None or after.probabilities is None:
        return None
    larger = torch.maximum(before.probabilities, after.probabilities)
    indices = sorted({*before.top_classes(), *after.top_classes()}, key=lambda index: -float(larger[index]))
    return [
        {
            "number": index,
            "name": class_name(loaded.network, index),
            "probability": after.probability(index),
            "before": before.probability(index),
        }
        for index in indices[:_MAX_COMPARED_CLASSES]
    ]


def clip_rectangle(left: int, top: int, width: int, height: int, crop: int) -> Box:
    """A rectangle clipped to a view of crop × crop pixels; at least the pixel of the view that is nearest to it."""
    right, bottom = min(max(left + width, 1), crop), min(max(top + height, 1), crop)
    return Box(min(max(left, 0), right - 1), min(max(top, 0), bottom - 1), right, bottom)


def default_layer(loaded: LoadedNetwork) -> str:
    """The last convolutional layer, or the last of all if there is none."""
    return [*loaded.network.layers, *loaded.network.convolutional_layers][-1]


class OcclusionSweep:
    """Slides an occluder over one image, some positions at a time, and follows a unit and a class."""

    def __init__(
        self,
        loaded: LoadedNetwork,
        x: Tensor,
        analysis: ImageAnalysis,
        occluder: Occluder,
        layer: str,
        unit: int | None = None,
        class_index: int | None = None,
    ) -> None:
        """Follow a unit of `layer` (default: the strongest) and a class (default: the most probable).

        `analysis` is that of the input x (3, crop, crop). Raises `RequestError` (422) for too many positions or a class that
        the network does not have, and `UsageError` for an occluder larger than the view.
        """
        network = loaded.network
        self.starts = occluder.starts(network.preprocessing.crop)
        self.position_count = len(self.starts) ** 2
        if self.position_count > MAX_POSITIONS:
            sentence = f"{self.position_count:,} positions are more than {MAX_POSITIONS:,}: choose a longer step."
            raise RequestError(422, sentence)
        if class_index is not None and class_index >= loaded.class_count:
            sentence = f"{network.full_name} has no class {class_index}: it tells {loaded.class_count} apart."
            raise RequestError(422, sentence)
        self.loaded, self.x, self.analysis, self.occluder = loaded, x, analysis, occluder
        self.layer = layer
        self.unit = analysis.strongest_unit(layer) if unit is None else unit
        self.class_index = analysis.top_classes()[0] if class_index is None and loaded.class_count else class_index
        self.done_count = 0
        self._corners = occluder.corners(network.preprocessing.crop)
        self._batch_size = _FIRST_BATCH_SIZE
        self._cache: ActivationCache | None = None

    def start(self) -> dict[str, Any]:
        """Run the network without the occluder; returns the first line of the stream."""
        network = self.loaded.network
        activation = network.activations(self.x[None], self.layer)[0, self.unit].cpu().double().sum()
        self._cache = activation_cache(network, self.x[None])
        return {
            "positions": self.position_count,
            "starts": list(self.starts),
            "size": self.occluder.size,
            "layer": self.layer,
            "unit": self.unit,
            "class": self.class_index,
            "class_name": None if self.class_index is None else class_name(network, self.class_index),
            "whole_probability": None if self.class_index is None else self.analysis.probability(self.class_index),
            "whole_activation": json_number(float(activation), 6),
        }

    def run_batch(self) -> dict[str, Any]:
        """Run the network on the next positions, about as many as take `_BATCH_SECONDS`; returns a line of the stream."""
        corners, start = self._corners[self.done_count : self.done_count + self._batch_size], time.perf_counter()
        totals, log_probabilities = forward_occluded(
            self.loaded.network, self.x, self.occluder, corners, self.layer, self.unit, self._cache
        )
        seconds = time.perf_counter() - start
        self.done_count += len(corners)
        fitting_size = int(self._batch_size * _BATCH_SECONDS / max(seconds, 1e-6))
        self._batch_size = max(1, min(_MAX_BATCH_SIZE, 2 * self._batch_size, fitting_size))
        probability = None
        if self.class_index is not None:
            probability = json_numbers(log_probabilities[:, self.class_index].exp(), 6)
        return {"done": self.done_count, "probability": probability, "activation": json_numbers(totals, 6)}


class OcclusionStream(StreamingResponse):
    """An occlusion map as lines of JSON, computed as they are sent; nothing more is computed if the client disconnects."""

    def __init__(
        self, worker: Worker, sweep: OcclusionSweep, first_line: dict[str, Any], on_end: Callable[[], None]
    ) -> None:
        """`first_line` is what `sweep.start` returned; `on_end` is called once, however the stream ends."""
        self._lines = _stream_lines(worker, sweep, first_line)
        self._on_end = on_end
        super().__init__(self._lines, headers={"Cache-Control": "no-store"}, media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
            await self._lines.aclose()


async def _stream_lines(worker: Worker, sweep: OcclusionSweep, first_line: dict[str, Any]) -> AsyncGenerator[str, None]:
    yield json.dumps(first_line) + "\n"
    try:
        while sweep.done_count < sweep.position_count:
            yield json.dumps(await worker.run_retrying(sweep.run_batch)) + "\n"
    except RequestCancelled:
        return
    except DeconvnetError as error:
        yield json.dumps({"error": str(error)}) + "\n"
    except Exception:
        logging.getLogger("uvicorn.error").exception("An occlusion map could not be finished")
        yield json.dumps({"error": UNEXPECTED_ERROR}) + "\n"
