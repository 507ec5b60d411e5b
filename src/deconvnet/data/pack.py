"""Photos decoded once, for all: section 3's 256×256 pixels in one file, with labels and the per-pixel mean."""

import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from deconvnet.data.decode import UnreadableImage
from deconvnet.data.image_set import ImageSet
from deconvnet.data.packed import (
    MANIFEST,
    PIXELS,
    PackedImageSet,
    open_packed,
)
from deconvnet.data.packing import (
    Done,
    PixelFile,
    same_work,
    work_done,
    write_tables,
)
from deconvnet.data.prefetch import prefetch
from deconvnet.data.transforms import square
from deconvnet.errors import DeconvnetError
from deconvnet.progress import bar
from deconvnet.storage import locked, refuse_existing

#: Seconds between two savings of how far the work is.
SAVE_EVERY = 10.0

#: Photos decoded ahead, by each thread.
_AHEAD = 8


def pack(
    sets: Mapping[str, ImageSet], out: Path | str, *, workers: int | None = None, progress: bool = False
) -> dict[str, PackedImageSet]:
    """Write sets of photos, named "train" and "val" or just "", as packed sets into the new folder `out`.

    Each photo's shorter side is resized to 256 pixels and the central square kept (section 3). Photos that cannot be read
    are left out and listed in the manifest. Nothing is at `out` until all is done; what an interrupted call has left in
    `.NAME.partial` the next one goes on with. `workers` threads decode (default: one per core).

    Raises `UsageError` if `out` exists; `DeconvnetError` if a set has no readable photo, if photos go while they are read,
    if the disk has too little room, or if other photos were being packed into `out`.
    """
    out = Path(os.path.realpath(out))
    refuse_existing(out)
    work = out.with_name(f".{out.name}.partial")
    with locked(work / "lock", f"Another process is packing into {out}: wait for it, or choose another --out."):
        refuse_existing(out)  # that process may just have finished it
        fits = False
        try:
            same_work(work, sets)
            fits = True
            _pack(sets, work, out, workers, progress)
        except BaseException as error:
            if not work_done(work):
                shutil.rmtree(work, ignore_errors=True)
            elif fits:
                error.add_note(
                    f"What is done so far is kept in {work}: the same command goes on with it, or begins anew if you remove "
                    "that folder."
                )
            raise
        shutil.rmtree(work, ignore_errors=True)
    return {name: open_packed(out / name) for name in sets}


def _pack(sets: Mapping[str, ImageSet], work: Path, out: Path, workers: int | None, progress: bool) -> None:
    try:
        files = {name: PixelFile(work / "packed" / name / PIXELS, len(image_set)) for name, image_set in sets.items()}
        for file in files.values():  # of all sets, or the last would find the disk full after hours
            file.reserve()
        for name, image_set in sets.items():
            _pack_set(image_set, files[name], work / f"done-{name}.npz", f"packing {name}".rstrip(), workers, progress)
        if out.exists():
            out.rmdir()  # empty, or it would have been refused
        (work / "packed").rename(out)
    except OSError as error:
        raise DeconvnetError(f"{out} cannot be written: {error.strerror or error}.") from error


def _pack_set(image_set: ImageSet, file: PixelFile, state: Path, title: str, workers: int | None, progress: bool) -> None:
    done = Done.load(state, len(image_set))
    due = time.monotonic() + SAVE_EVERY
    with (
        file,
        bar(title, len(image_set), progress, done.count) as advance,
        closing(_squares(image_set, done.count, workers)) as results,
    ):
        for result in results:
            file.write(done.count, result if isinstance(result, np.ndarray) else None)
            done.add(result)
            advance(1)
            if time.monotonic() > due or done.count == len(image_set):
                file.sync()
                done.save(state)
                due = time.monotonic() + SAVE_EVERY
    if not (file.path.parent / MANIFEST).exists():
        write_tables(file.path.parent, image_set, done)


def _squares(image_set: ImageSet, start: int, workers: int | None) -> Generator[np.ndarray | str]:
    """The squares of photos from number `start` on, or the reasons why they cannot be read; decoded ahead."""

    def read(index: int) -> np.ndarray | str:
        try:
            return square(image_set.read(index))
        except UnreadableImage as error:
            if not os.path.lexists(image_set.file(index)):
                raise DeconvnetError(f"{image_set.file(index)} has gone since the photos were listed.") from None
            return str(error)

    threads = workers or os.cpu_count() or 1
    return prefetch(read, range(start, len(image_set)), threads, _AHEAD * threads)
