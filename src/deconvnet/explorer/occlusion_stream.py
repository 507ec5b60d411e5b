"""What a network makes of a photo of which a part is covered. All of it belongs in the worker's thread."""

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
from deconvnet.experiments.fig7_occlusion.compute import occluded_batch
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.explorer.inference import Seen
from deconvnet.explorer.models import Ready
from deconvnet.explorer.responses import UNEXPECTED, Gone, Refusal, significant
from deconvnet.explorer.worker import Worker
from deconvnet.tracing import ActivationCache, Box

#: Positions of an occluder over one photo.
MOST_POSITIONS = 10_000

#: Classes that are compared with and without an occluder.
_COMPARED = 8

#: Positions that go through the network at once: at first, and at most; and the seconds that they should take.
_FIRST, _MOST, _SECONDS = 8, 64, 0.15


def cover(ready: Ready, x: Tensor, seen: Seen, box: Box) -> dict[str, Any]:
    """Classes and units with `box` of the input x (3, crop, crop) at 0, the mean, beside what was `seen` without."""
    network = ready.network
    strongest = {layer: units[0] for layer, units in seen.layers.items() if units}
    now: dict[str, float] = {}

    def visit(layer: str, maps: Tensor) -> None:
        now[layer] = float(maps[0, strongest[layer].unit].max())

    window, corner = x.new_zeros(1, 3, box.bottom - box.top, box.right - box.left), torch.tensor([[box.top, box.left]])
    output = network.forward_patched(x[None], None, window, corner, strongest, visit)
    after = Seen(output[0].float().softmax(dim=0).cpu() if ready.classes else None, {})
    units = [
        {"layer": layer, "unit": unit.unit, "value": significant(now[layer]), "before": significant(unit.value)}
        for layer, unit in strongest.items()
    ]
    return {"classes": _compare(ready, seen, after), "units": units}


def _compare(ready: Ready, before: Seen, after: Seen) -> list[dict[str, Any]] | None:
    if before.probabilities is None or after.probabilities is None:
        return None
    most = torch.maximum(before.probabilities, after.probabilities)
    numbers = sorted({*before.best(), *after.best()}, key=lambda number: -float(most[number]))
    return [
        {
            "number": number,
            "name": class_name(ready.network, number),
            "probability": after.probability(number),
            "before": before.probability(number),
        }
        for number in numbers[:_COMPARED]
    ]


def clipped(left: int, top: int, width: int, height: int, crop: int) -> Box:
    """A rectangle's part inside a view of crop × crop pixels, at least the pixel that is nearest to it."""
    right, bottom = min(max(left + width, 1), crop), min(max(top + height, 1), crop)
    return Box(min(max(left, 0), right - 1), min(max(top, 0), bottom - 1), right, bottom)


def default_layer(ready: Ready) -> str:
    """The last convolutional layer, or the last of all where there is none."""
    return [*ready.network.layers, *ready.network.convolutional_layers][-1]


class Sweep:
    """An occluder on its way over one photo."""

    def __init__(
        self,
        ready: Ready,
        x: Tensor,
        seen: Seen,
        occluder: Occluder,
        layer: str,
        unit: int | None = None,
        target: int | None = None,
    ) -> None:
        """Follow a unit of `layer` (default: the one that is driven most) and a class (default: the most probable).

        Raises `Refusal` (422) for too many positions, or a class that is not there, and `UsageError` for an occluder larger
        than the view.
        """
        network = ready.network
        self.starts = occluder.starts(network.preprocessing.crop)
        self.positions = len(self.starts) ** 2
        if self.positions > MOST_POSITIONS:
            sentence = f"{self.positions:,} positions are more than {MOST_POSITIONS:,}: choose a longer step."
            raise Refusal(422, sentence)
        if target is not None and target >= ready.classes:
            raise Refusal(422, f"{network.full_name} has no class {target}: it tells {ready.classes} apart.")
        self.ready, self.x, self.seen, self.occluder = ready, x, seen, occluder
        self.layer = layer
        self.unit = seen.strongest(layer) if unit is None else unit
        self.target = seen.best()[0] if target is None and ready.classes else target
        self.done = 0
        self._corners = occluder.corners(network.preprocessing.crop)
        self._batch = _FIRST
        self._unchanged: ActivationCache | None = None

    def begin(self) -> dict[str, Any]:
        """What stands before the maps."""
        network = self.ready.network
        whole = network.activations(self.x[None], self.layer)[0, self.unit].cpu().double().sum()
        self._unchanged = network.activation_cache(self.x[None])
        return {
            "positions": self.positions,
            "starts": list(self.starts),
            "size": self.occluder.size,
            "layer": self.layer,
            "unit": self.unit,
            "class": self.target,
            "class_name": None if self.target is None else class_name(network, self.target),
            "whole_probability": None if self.target is None else self.seen.probability(self.target),
            "whole_activation": significant(float(whole)),
        }

    def step(self) -> dict[str, Any]:
        """The next positions, as many as take a moment, so that others who wait for the network get in between."""
        part, start = self._corners[self.done : self.done + self._batch], time.perf_counter()
        totals, scores = occluded_batch(
            self.ready.network, self.x, self._unchanged, self.occluder, part, self.layer, self.unit
        )
        taken = time.perf_counter() - start
        self.done += len(part)
        self._batch = max(1, min(_MOST, 2 * self._batch, int(self._batch * _SECONDS / max(taken, 1e-6))))
        probability = None if self.target is None else scores[:, self.target].exp().tolist()
        return {
            "done": self.done,
            "probability": probability and [significant(value) for value in probability],
            "activation": [significant(value) for value in totals.tolist()],
        }


class SweepStream(StreamingResponse):
    """Lines of JSON, computed as they are sent. When the client goes away nothing more is computed."""

    def __init__(self, worker: Worker, sweep: Sweep, first: dict[str, Any], ended: Callable[[], None]) -> None:
        """`ended` is called once this is over, however it ends."""
        self._lines = _lines(worker, sweep, first)
        self._ended = ended
        super().__init__(self._lines, headers={"Cache-Control": "no-store"}, media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
            await self._lines.aclose()


async def _lines(worker: Worker, sweep: Sweep, first: dict[str, Any]) -> AsyncGenerator[str, None]:
    yield json.dumps(first) + "\n"
    try:
        while sweep.done < sweep.positions:
            yield json.dumps(await worker.run_patiently(sweep.step)) + "\n"
    except Gone:
        return
    except DeconvnetError as error:
        yield json.dumps({"error": str(error)}) + "\n"
    except Exception:
        logging.getLogger("uvicorn.error").exception("An occlusion map could not be finished")
        yield json.dumps({"error": UNEXPECTED}) + "\n"
