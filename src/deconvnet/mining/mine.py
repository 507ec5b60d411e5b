"""One pass over a set of photos that fills all layers (section 4)."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path

import torch
from torch import Tensor

from deconvnet.data import (
    Batch,
    ImageSet,
    find_images,
    read_batch,
    split_batches,
)
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining.results import LayerHits, MiningResult
from deconvnet.mining.state import Key, State
from deconvnet.mining.statistics import LARGEST
from deconvnet.models import Network, parallel_map
from deconvnet.progress import bar
from deconvnet.storage import locked

#: Seconds of mining between two savings; as many times more as a saving takes seconds.
SAVE_EVERY = 10.0


def mine(
    network: Network,
    images: Path | str | Iterable[Path | str] | ImageSet,
    layers: Sequence[str] | None = None,
    top: int = 9,
    *,
    state: Path | str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> MiningResult:
    """Find the `top` strongest activations of every unit, at most one per photo, and each unit's statistics (section 4).

    `images` is a folder (flat, or one level of class folders), a list of files or `ImageSet`; `layers` are names of the
    network's layers (default: the convolutional ones). Hits are ordered by value, descending, then by relative path. In
    each photo a unit's strongest activation is taken, the first in row-major order among equals, if it is above 0: a dead
    unit has no hits. `found["conv5"][12][0]` is the strongest `Hit` of unit 12, with its box in pixels of the network's
    input. Memory does not grow with the number of photos, and neither `batch_size` nor `workers` (threads) changes the
    answer beyond rounding.

    `state` names a file in which the work is kept: saved every ten seconds, at the end, and when something stops it. If it
    is there already, mining goes on where it was, and finds what it would have found undisturbed.

    Raises `UsageError` for an unknown layer or a senseless number, `DeconvnetError` if no photo can be read, the network
    gives NaN or the like, or `state` cannot be written, is of another search, or is in use.
    """
    image_set = find_images(images)
    key = Key.of(network, image_set, network.convolutional_layers if layers is None else layers, top)
    file = None if state is None else Path(state)
    with nullcontext() if file is None else only_process(file):
        found = State.load(file, key) if file is not None and file.exists() else State(key)
        mine_images(found, network, image_set, found.left, file, batch_size=batch_size, workers=workers, progress=progress)
    return to_result(found, network, image_set)


def mine_images(
    state: State,
    network: Network,
    image_set: ImageSet,
    left: Tensor,
    file: Path | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Mine the photos `left` (n,), none of which is done, into `state`, and save that in `file` now and then.

    A photo's values are the same to the bit as in one pass over all photos if whole batches are left: photos from a multiple
    of `batch_size` up to the next.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size = {batch_size}: it must be 1 or more.")
    numbers = {name: number for number, name in enumerate(image_set.classes)}
    labels = torch.tensor([numbers.get(label, -1) for label in image_set.labels])
    state.to(network.device)

    def read(indices: Sequence[int]) -> Batch:
        return read_batch(image_set, network.preprocessing.viewed, indices, batch_size)

    def look(own: Network, batch: Batch) -> tuple[Batch, dict[str, tuple[Tensor, Tensor]]]:
        """The batch and, by layer, what `State.add` takes."""
        found: dict[str, tuple[Tensor, Tensor]] = {}

        def reduce(name: str, maps: Tensor) -> None:
            maxima = maps.amax(dim=(2, 3)).float()
            _check(maxima[batch.rows], name, network)
            found[name] = maxima[batch.rows], _places(maps, maxima, state.strongest[name].threshold)[batch.rows]

        if len(batch.rows):
            with torch.inference_mode():
                inputs = own.preprocessing.normalise(batch.inputs.to(own.device))
                own.capture(inputs, state.key.layers, reduce)
        return batch, found

    groups = split_batches(left.tolist(), batch_size)
    due = time.monotonic() + SAVE_EVERY
    try:
        with (
            bar("mining", len(left), progress and len(left) > 0) as advance,
            closing(parallel_map(network, read, look, groups, workers)) as looked,
        ):
            for batch, found in looked:
                state.add(batch.images, found, labels[batch.images], batch.skipped)
                advance(len(batch.rows) + len(batch.skipped))
                if file is not None and time.monotonic() > due:
                    start = time.monotonic()
                    state.save(file)
                    due = time.monotonic() + SAVE_EVERY * max(1.0, time.monotonic() - start)
    except BaseException:
        if file is not None and state.read:
            with suppress(DeconvnetError):  # what stopped the mining is the thing to say
                state.save(file)
        raise
    if file is not None:
        state.save(file)


def to_result(state: State, network: Network, image_set: ImageSet) -> MiningResult:
    """The hits and statistics of a finished state.

    Raises `DeconvnetError` if no photo could be read.
    """
    if not state.read:
        index, reason = next(iter(state.skipped.items()))
        raise DeconvnetError(
            f"None of the {len(image_set)} photos in {image_set.root} can be read: {image_set.paths[index]} {reason}."
        )
    state.to("cpu")
    layers = {
        name: LayerHits(network.layer(name), image_set, state.strongest[name], state.statistics[name])
        for name in state.key.layers
    }
    return MiningResult(image_set, layers, state.key.top, dict(sorted(state.skipped.items())))


def only_process(file: Path) -> AbstractContextManager[None]:
    """Holds the lock of a state file. Raises `DeconvnetError` if another process does."""
    return locked(file.with_name(f".{file.name}.lock"), f"Another process is mining into {file}: wait until it is done.")


def _places(maps: Tensor, maxima: Tensor, least: Tensor) -> Tensor:
    """(N, units) where in `maps` (N, units, rows, columns) the maxima stand, the first in row-major order among equals; -1
    for those that are not above 0, or are below `least` (units,), and so will be dropped. To look for them all would take
    longer than some layers do.
    """
    places = torch.full_like(maxima, -1, dtype=torch.int64)
    images, units = ((maxima > 0) & (maxima >= least)).nonzero(as_tuple=True)
    places[images, units] = maps[images, units].flatten(1).argmax(dim=1)
    return places


def _check(maxima: Tensor, layer: str, network: Network) -> None:
    """Raise `DeconvnetError` for a value that no sound network gives."""
    wrong = maxima[~(maxima.abs() < LARGEST)]  # NaN is not below it either
    if len(wrong):
        value = "NaN" if wrong[0].isnan() else f"{wrong[0].item():.3g}"
        raise DeconvnetError(f"{layer} of {network.full_name} gives {value}: its weights are damaged.")
