"""Run batches through a network and add each unit's maximum to the state of mining, saved every few seconds."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deconvnet.data import Batch, ImageSet
from deconvnet.errors import DeconvnetError
from deconvnet.mining.state import MiningState
from deconvnet.mining.statistics import MAX_ACTIVATION
from deconvnet.models import InputReader, Network, parallel_map, to_inputs
from deconvnet.progress import progress_bar

#: Seconds of mining between two saves of the state; multiplied by the seconds that the last save took, if those are more
#: than one.
SAVE_EVERY = 10.0


def mine_batches(
    state: MiningState,
    reader: InputReader,
    items: Iterable[Any],
    count: int | None,
    file: Path | None,
    workers: int | None,
    progress: bool,
) -> None:
    """Mine the batches that `reader` reads from `items`, of images none of which is done, into `state`; save it in `file`
    every few seconds. They have `count` images, None if that is not known.

    An image's values are the same to the bit as in one pass over all images if whole batches remain: images from a multiple
    of the batch size up to the next. Raises what `mine` raises.
    """
    network, image_set = reader.network, reader.input_set
    class_indices = {name: index for index, name in enumerate(image_set.classes)}
    folder_labels = torch.tensor([class_indices.get(label, -1) for label in image_set.labels], dtype=torch.int64)
    state.to(network.device)

    def read(item: Any) -> tuple[Batch, Tensor]:
        batch = reader.read(item)
        return batch.pinned_for(network.device), batch.checksums()

    def labels_of(batch: Batch) -> Tensor:
        if isinstance(image_set, ImageSet):
            return folder_labels[batch.indices]
        return state.add_labels(batch.indices, batch.labels)

    def find_maxima(replica: Network, item: tuple[Batch, Tensor]) -> tuple[Batch, Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """The batch, its checksums and, by layer, each unit's maximum and its flat position, as `MiningState.add` takes
        them. The device is waited for once, at the end.
        """
        batch, checksums = item
        maxima: dict[str, tuple[Tensor, Tensor]] = {}
        rows = batch.rows.to(replica.device)

        def reduce(name: str, maps: Tensor) -> None:
            values = maps.amax(dim=(2, 3)).float()
            flat_positions = _flat_positions(maps, values, state.topk[name].threshold)
            maxima[name] = values[rows], flat_positions[rows]

        if len(batch.rows):
            with torch.inference_mode():
                replica.capture(to_inputs(replica, batch.inputs), state.key.layers, reduce)
                _check_range(maxima, network)
        return batch, checksums, maxima

    next_save = time.monotonic() + SAVE_EVERY
    try:
        with (
            progress_bar("mining", count or 0, progress and bool(count)) as advance,
            closing(parallel_map(network, read, find_maxima, items, workers, reader.batch_size)) as mined_batches,
        ):
            for batch, checksums, maxima in mined_batches:
                if count is None and (needed := int(batch.indices[-1]) + 1) > len(state.done):
                    state.resize(2 * needed)
                state.add(batch.indices, maxima, labels_of(batch), checksums, batch.skipped)
                advance(len(batch.rows) + len(batch.skipped))
                if file is not None and time.monotonic() > next_save:
                    start = time.monotonic()
                    state.save(file)
                    next_save = time.monotonic() + SAVE_EVERY * max(1.0, time.monotonic() - start)
    except BaseException:
        if file is not None and state.read_count:
            with suppress(DeconvnetError):  # the first error is the one to report
                state.save(file)
        raise
    if file is not None:
        state.save(file)


def _flat_positions(maps: Tensor, maxima: Tensor, threshold: Tensor) -> Tensor:
    """(N, units) flat position of each maximum in `maps` (N, units, rows, columns), the first in row-major order among
    equals; -1 for maxima that are not above 0 or are below `threshold` (units,) and so cannot become hits.
    """
    can_enter = (maxima > 0) & (maxima >= threshold)
    if maps.device.type != "cpu":
        return maps.flatten(2).argmax(dim=2).where(can_enter, -1)
    # On a CPU, to search for all of them would take longer than some layers do. Elsewhere, to find these would be a wait.
    flat_positions = torch.full_like(maxima, -1, dtype=torch.int64)
    images, units = can_enter.nonzero(as_tuple=True)
    flat_positions[images, units] = maps[images, units].flatten(1).argmax(dim=1)
    return flat_positions


def _check_range(maxima: Mapping[str, tuple[Tensor, Tensor]], network: Network) -> None:
    """Raise `DeconvnetError` for NaN, infinite and absurdly large values in any layer; waits for the device once."""
    largest = torch.stack([values.abs().amax() for values, _ in maxima.values()]).tolist()  # NaN if there is one
    for layer, value in zip(maxima, largest, strict=True):
        if not value < MAX_ACTIVATION:  # NaN compares false too
            shown = "NaN" if math.isnan(value) else f"{value:.3g}"
            raise DeconvnetError(f"{layer} of {network.full_name} gives {shown}: {network.reason_for_non_finite}.")
