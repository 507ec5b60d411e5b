"""One pass over a set of images that fills all layers (section 4): in one process or several, resumable, in parts."""

import glob
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from deconvnet.data import InputDataset, Inputs, InputSet, InputStream, find_inputs, split_batches
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining.mine_batches import mine_batches
from deconvnet.mining.results import LayerHits, MiningResult
from deconvnet.mining.state import MiningKey, MiningState
from deconvnet.models import InputReader, Network
from deconvnet.progress import print_status
from deconvnet.storage import locked

#: Parts are cut at multiples of this many images, whatever the batch size, so that they fit together. It is the default
#: batch size: merged parts then equal one pass to the bit.
PART_MULTIPLE = 32


def mine(
    network: Network,
    images: Inputs,
    layers: Sequence[str] | None = None,
    top: int = 9,
    *,
    state: Path | str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> MiningResult:
    """Find the `top` strongest activations of every unit, at most one per image, and each unit's statistics (section 4).

    `images` is a folder (flat, or one level of class folders), a list of files or an `ImageSet`; or a map-style
    `torch.utils.data.Dataset` or an iterable of tensors (C, H, W) as the network takes them, or of pairs of one and a label.
    These are read by PyTorch's `DataLoader`, and `Hit.path` is the index (`InputDataset` gives a data set a name, and its
    `DataLoader` several processes). `layers` are names of layers (default: the convolutional ones). Hits are ordered by
    value, descending, then by relative path or index. In each image a unit's strongest activation counts, the first in
    row-major order among equals, if it is above 0: a dead unit has no hits. `result["conv5"][12][0]` is the strongest `Hit`
    of unit 12, with its box in pixels of the network's input. Memory does not grow with the number of images, and neither
    `batch_size` nor `workers` (threads) changes the result beyond rounding.

    `state` names a file for the state of the search. It is saved every ten seconds, at the end, and when the search is
    interrupted. If the file exists, the search resumes, and its result equals that of an uninterrupted one.

    Raises `UsageError` for an unknown layer, if `top` or `batch_size` is below 1, for photos if the network has no
    preprocessing, or for an iterable with a `state`; `DeconvnetError` if no image can be read, an item of a data set is no
    input of the network (another shape or type, NaN) or differs when it is read again, an activation is NaN or absurdly
    large, or `state` cannot be written, belongs to another search, or is in use.
    """
    image_set = find_inputs(images)
    reader = InputReader(network, image_set, batch_size)
    key = MiningKey.compute(network, image_set, network.convolutional_layers if layers is None else layers, top)
    file = None if state is None else Path(state)
    if isinstance(image_set, InputStream):
        if file is not None:
            raise UsageError("An iterable is read only once, so its mining cannot resume: leave state out.")
        mined = MiningState(key)
        mine_batches(mined, reader, reader.stream(), None, None, workers, progress)
        mined.resize(mined.read_count)
        return to_result(mined, network, image_set)
    with nullcontext() if file is None else _state_lock(file):
        mined = mine_remaining(network, image_set, key, file, batch_size=batch_size, workers=workers, progress=progress)
    return to_result(mined, network, image_set)


def mine_part(
    network: Network,
    image_set: InputSet,
    file: Path,
    part: tuple[int, int],
    layers: Sequence[str] | None = None,
    top: int = 9,
    processes: Processes | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> MiningState:
    """Mine part `part[0]`, from 1, of `part[1]` parts of the images into the state file `file`, for `merge_parts`.

    With `processes`, all of them must call it. Resumes from `file` if it exists. Raises `UsageError` if there is no such
    part, and what `mine` raises.
    """
    number, count = part
    if not 1 <= number <= count:
        raise UsageError(f"There is no part {number} of {count}: parts go from 1/{count} to {count}/{count}.")
    processes = processes or Processes()
    key = MiningKey.compute(network, image_set, network.convolutional_layers if layers is None else layers, top)
    indices = split_indices(torch.arange(len(image_set)), number - 1, count, PART_MULTIPLE)
    with _state_lock(file) if processes.is_first else nullcontext():
        return mine_remaining(
            network,
            image_set,
            key,
            file,
            indices,
            processes,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )


def merge_parts(network: Network, image_set: InputSet, files: Sequence[Path | str]) -> MiningState:
    """Merge the state files of all parts into the state of the whole image set.

    Raises `DeconvnetError`, which names the part or the images, if a part is of another network, other images or otherwise
    of another search, if parts overlap, or if images are missing.
    """
    merged: MiningState | None = None
    done_by_file: list[tuple[Path, Tensor]] = []
    for file in map(Path, files):
        state = MiningState.load(file)
        layers = [name for name in state.key.layers if name in network.layers]
        if difference := MiningKey.compute(network, image_set, layers, state.key.top).differences(state.key):
            raise DeconvnetError(f"{file} was mined with {difference}, so it is no part of this.")
        if merged is not None and (difference := merged.key.differences(state.key)):
            raise DeconvnetError(f"{file} was mined with {difference} than {files[0]}, so they do not fit together.")
        for earlier_file, done in done_by_file:
            if common := int((done & state.done).sum()):
                raise DeconvnetError(
                    f"{earlier_file} and {file} both hold {common:,} photos: merge parts that have none in common."
                )
        done_by_file.append((file, state.done.clone()))
        if merged is None:
            merged = state
        else:
            merged.merge(state)
    if merged is None:
        raise UsageError("There is nothing to merge: pass the files that `deconvnet mine` wrote.")
    if len(remaining := merged.remaining.tolist()):
        first, last = image_set.paths[remaining[0]], image_set.paths[remaining[-1]]
        raise DeconvnetError(
            f"The parts lack {len(remaining):,} of {len(image_set):,} photos (the first is {first}, the last {last}): "
            "a part is missing, or is not finished."
        )
    return merged


def mine_remaining(
    network: Network,
    image_set: InputSet,
    key: MiningKey,
    file: Path | None = None,
    indices: Tensor | None = None,
    processes: Processes | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> MiningState:
    """The state of the images `indices` (n,) (default: all): what `file` holds already, and the others, mined now.

    With several `processes`, all must call it; each mines a share of what remains, and all return the merged state. Rank 0
    keeps its state in `file`, which holds the merged state in the end; the others keep theirs next to it. Files left by an
    interrupted run of any number of processes are used. The caller keeps other runs away from `file`.

    Raises what `mine` raises, and `DeconvnetError` if `file` holds images that are not among `indices`.
    """
    reader = InputReader(network, image_set, batch_size)
    indices = torch.arange(len(image_set)) if indices is None else indices
    processes = processes or Processes()
    state = MiningState(key)
    if processes.is_first and file is not None:
        state = _load_saved(file, key)
        done_before = int(state.done[indices].sum())
        if not state.done.sum() == done_before:
            raise DeconvnetError(f"{file} holds another part of the photos: choose another --out, or remove it.")
        if done_before:
            print_status(f"Resuming: {done_before:,} of {len(indices):,} photos were mined.", progress)
    remaining = indices[~state.done[indices]]
    if processes.world_size > 1:
        remaining = _broadcast_remaining(remaining, key, processes)
    process_file = None if file is None else _process_file(file, processes.rank)
    if not processes.is_first and process_file is not None and process_file.exists():
        MiningState.load(process_file, key)  # left on this machine's own disk; must not be overwritten by another search
    share = split_indices(remaining, processes.rank, processes.world_size, batch_size).tolist()
    batches = split_batches(share, batch_size)
    mine_batches(state, reader, reader.items(batches), len(share), process_file, workers, progress and processes.is_first)
    if processes.world_size > 1:
        state = _merge_processes(state, processes, file)
        if not processes.is_first and process_file is not None:
            process_file.unlink(missing_ok=True)
    return state


def to_result(state: MiningState, network: Network, image_set: InputSet) -> MiningResult:
    """The hits and statistics of a finished state, which is moved to the CPU.

    Raises `DeconvnetError` if no image could be read.
    """
    if not state.read_count:
        if not state.skipped:
            raise DeconvnetError(f"{image_set.title} has no item to mine.")
        index, reason = next(iter(state.skipped.items()))
        raise DeconvnetError(
            f"None of the {len(image_set)} photos in {image_set.title} can be read: {image_set.paths[index]} {reason}."
        )
    if isinstance(image_set, InputDataset | InputStream):
        image_set = image_set.with_labels(state.labels, state.classes)
    state.to("cpu")
    layers = {
        name: LayerHits(network.layer(name), image_set, state.topk[name], state.statistics[name])
        for name in state.key.layers
    }
    return MiningResult(image_set, layers, state.key.top, dict(sorted(state.skipped.items())))


def split_indices(indices: Tensor, rank: int, count: int, multiple: int) -> Tensor:
    """Share number `rank`, from 0, of `count` nearly equal shares of `indices` (n,), cut at multiples of `multiple`.

    With the batch size as `multiple`, batches stay whole: what an image is batched with does not depend on `count`.
    """
    blocks = indices // multiple
    share_blocks = torch.tensor(sorted(set(blocks.tolist()))).tensor_split(count)[rank]
    return indices[torch.isin(blocks, share_blocks)]


def _state_lock(file: Path) -> AbstractContextManager[None]:
    """Hold the lock of a state file. Raises `DeconvnetError` if another process does."""
    return locked(file.with_name(f".{file.name}.lock"), f"Another process is mining into {file}: wait until it is done.")


def _process_file(file: Path, rank: int) -> Path:
    """The state file of one process."""
    return file if rank == 0 else file.with_name(f".{file.stem}-process-{rank}{file.suffix}")


def _load_saved(file: Path, key: MiningKey) -> MiningState:
    """The state saved by an earlier run in `file` and in its other processes' files, which are merged into `file`."""
    stem, suffix = glob.escape(file.stem), glob.escape(file.suffix)
    for stale in file.parent.glob(f"..{stem}-process-*.partial{suffix.lower()}"):
        stale.unlink()  # a save that was killed
    process_files = sorted(file.parent.glob(f".{stem}-process-*{suffix}"))
    state = MiningState.load(file, key) if file.exists() else MiningState(key)
    for process_file in process_files:
        process_state = MiningState.load(process_file, key)
        if (process_state.done & state.done).any():
            continue  # already merged, and killed before the file was removed; if merged in part, the rest is mined again
        state.merge(process_state)
    if process_files:
        state.save(file)
        for process_file in process_files:
            process_file.unlink()
    return state


def _broadcast_remaining(remaining: Tensor, key: MiningKey, processes: Processes) -> Tensor:
    """The indices that rank 0 passes, in all processes. Raises `DeconvnetError` if the keys differ."""
    first_key, first_remaining = json.loads(processes.broadcast(json.dumps([key.as_json(), remaining.tolist()]).encode()))
    if difference := key.differences(MiningKey.from_json(first_key)):
        raise DeconvnetError(
            f"The first process has {difference} than process {processes.rank}: start all with the same command, on the "
            "same photos."
        )
    return torch.tensor(first_remaining, dtype=torch.int64)


def _merge_processes(state: MiningState, processes: Processes, file: Path | None) -> MiningState:
    """All processes' states merged, in every process; rank 0 saves it in `file` before the others have it."""
    state.to("cpu")
    if processes.is_first:
        for rank in range(1, processes.world_size):
            state.merge(MiningState.from_bytes(processes.receive(rank), f"What process {rank} sends"))
        if file is not None:
            state.save(file)
        processes.broadcast(state.to_bytes())
        return state
    processes.send(state.to_bytes())
    return MiningState.from_bytes(processes.broadcast(), "What the first process sends")
