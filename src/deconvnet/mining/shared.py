"""Mining divided: among processes that work at the same time, and into parts that are mined apart and merged."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deconvnet.data import ImageSet
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining.mine import mine_images, only_process
from deconvnet.mining.state import Key, State, share
from deconvnet.models import Network
from deconvnet.progress import say

#: Parts are cut at multiples of this many photos, whatever the batch size, so that they fit together. As it is the default
#: batch size, merged parts then give what one pass gives, to the bit.
GRAIN = 32


def mine_together(
    network: Network,
    image_set: ImageSet,
    key: Key,
    file: Path,
    processes: Processes,
    own: Tensor | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> State:
    """Mine those of the photos `own` (n,) (default: all) that `file` does not hold yet, a share in each process.

    Every process must call it, and returns the whole state. The first keeps its work in `file`, where the whole is in the
    end; the others keep theirs beside it. Whatever is left of an earlier run, of however many processes, is gone on from.
    """
    own = torch.arange(len(image_set)) if own is None else own
    state = State(key)
    mine_at = _beside(file, processes.rank)
    if processes.first:
        state = _gather(file, key)
        before = int(state.done[own].sum())
        if not state.done.sum() == before:
            raise DeconvnetError(f"{file} holds another part of the photos: choose another --out, or remove it.")
        if before:
            say(f"Going on: {before:,} of {len(own):,} photos were mined.", progress)
    left = own[~state.done[own]]
    if processes.count > 1:
        said = processes.broadcast(json.dumps([key.as_json(), left.tolist()]).encode())
        first_key, remaining = json.loads(said)
        if different := key.differences(Key.from_json(first_key)):
            raise DeconvnetError(
                f"The first process has {different} than process {processes.rank}: start all with the same command, on the "
                "same photos."
            )
        left = torch.tensor(remaining, dtype=torch.int64)
        if not processes.first and mine_at.exists():
            State.load(mine_at, key)  # left on this machine's own disk by an earlier run; not lost to another search
    mine_images(
        state,
        network,
        image_set,
        share(left, processes.rank, processes.count, batch_size),
        mine_at,
        batch_size=batch_size,
        workers=workers,
        progress=progress and processes.first,
    )
    if processes.count > 1:
        state = _exchange(state, processes, file)
        if not processes.first:
            mine_at.unlink(missing_ok=True)
    return state


def _exchange(state: State, processes: Processes, file: Path) -> State:
    """All processes' states, merged, in all of them; the first has saved it in `file` by then."""
    state.to("cpu")
    if processes.first:
        for rank in range(1, processes.count):
            state.merge(State.from_bytes(processes.receive(rank), f"What process {rank} sends"))
        state.save(file)
        processes.broadcast(state.to_bytes())
        return state
    processes.send(state.to_bytes())
    return State.from_bytes(processes.broadcast(), "What the first process sends")


def _beside(file: Path, rank: int) -> Path:
    """Where a process keeps its state."""
    return file if rank == 0 else file.with_name(f".{file.stem}-process-{rank}{file.suffix}")


def _gather(file: Path, key: Key) -> State:
    """What an earlier run has left in `file` and beside it, all of it in `file`."""
    stem, suffix = glob.escape(file.stem), glob.escape(file.suffix)
    for stale in file.parent.glob(f"..{stem}-process-*.partial{suffix}"):
        stale.unlink()  # that process was killed while it saved
    others = sorted(file.parent.glob(f".{stem}-process-*{suffix}"))
    state = State.load(file, key) if file.exists() else State(key)
    for other in others:
        found = State.load(other, key)
        if (found.done & state.done).any():
            continue  # it was merged already, and the run was killed before this file was removed; if in part, mine the rest
        state.merge(found)
    if others:
        state.save(file)
        for other in others:
            other.unlink()
    return state


def mine_part(
    network: Network,
    image_set: ImageSet,
    file: Path,
    part: tuple[int, int],
    layers: Sequence[str] | None = None,
    top: int = 9,
    processes: Processes | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> State:
    """Mine part `part[0]`, from 1, of `part[1]` parts of the photos into the state file `file`, for `merge_parts`.

    Raises `UsageError` for a part that there is not, and what `mine` raises.
    """
    number, of = part
    if not 1 <= number <= of:
        raise UsageError(f"There is no part {number} of {of}: parts go from 1/{of} to {of}/{of}.")
    processes = processes or Processes()
    key = Key.of(network, image_set, network.convolutional_layers if layers is None else layers, top)
    own = share(torch.arange(len(image_set)), number - 1, of, GRAIN)

    def run() -> State:
        options = {"batch_size": batch_size, "workers": workers, "progress": progress}
        return mine_together(network, image_set, key, file, processes, own, **options)  # type: ignore[arg-type]

    if not processes.first:
        return run()
    with only_process(file):
        return run()


def merge_parts(network: Network, image_set: ImageSet, files: Sequence[Path | str]) -> State:
    """The whole state, of parts of the photos that were mined apart.

    Raises `DeconvnetError`, which names the part or the photos, if a part is of another network, of other photos or
    otherwise of another search, if parts overlap, or if photos are missing.
    """
    whole: State | None = None
    before: list[tuple[Path, Tensor]] = []
    for file in map(Path, files):
        state = State.load(file)
        known = [name for name in state.key.layers if name in network.layers]
        if different := Key.of(network, image_set, known, state.key.top).differences(state.key):
            raise DeconvnetError(f"{file} was mined with {different}, so it is no part of this.")
        if whole is not None and (different := whole.key.differences(state.key)):
            raise DeconvnetError(f"{file} was mined with {different} than {files[0]}, so they do not fit together.")
        for other, done in before:
            if twice := int((done & state.done).sum()):
                raise DeconvnetError(f"{other} and {file} both hold {twice:,} photos: merge parts that have none in common.")
        before.append((file, state.done.clone()))
        if whole is None:
            whole = state
        else:
            whole.merge(state)
    if whole is None:
        raise UsageError("There is nothing to merge: pass the files that `deconvnet mine` wrote.")
    if len(whole.left):
        first, last = image_set.paths[int(whole.left[0])], image_set.paths[int(whole.left[-1])]
        raise DeconvnetError(
            f"The parts lack {len(whole.left):,} of {len(image_set):,} photos (the first is {first}, the last {last}): "
            "a part is missing, or is not finished."
        )
    return whole
