"""The hidden folder in which an atlas grows: it survives errors and kills, and the same command goes on with it."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deconvnet.atlas.project_units import HitsChanged
from deconvnet.errors import DeconvnetError
from deconvnet.mining import Key
from deconvnet.storage import atomic_write, locked, refuse_existing

_FORMAT = 1


@dataclass
class Unfinished:
    """An atlas that is being made for `out`."""

    out: Path
    drawn: dict[str, dict[int, float]] = field(default_factory=dict)
    """By layer and unit, those whose pictures are on the disk, with the largest difference found while projecting."""
    _hits: str = ""

    @property
    def folder(self) -> Path:
        return self.out.with_name(f".{self.out.name}.partial")

    @property
    def atlas(self) -> Path:
        """What becomes `out` in the end."""
        return self.folder / "atlas"

    @property
    def state(self) -> Path:
        """The state file of the mining."""
        return self.folder / "mined.safetensors"

    @property
    def again(self) -> Path:
        """The state file of a fast search's second step."""
        return self.folder / "searched-again.safetensors"

    @property
    def _record(self) -> Path:
        return self.folder / "drawn.json"

    def go_on_drawing(self, hits: str, chosen: dict[str, list[int]], pictures: Callable[[str, int], list[Path]]) -> None:
        """Fill `drawn` with those of the `chosen` units that an earlier run drew, and remove the pictures of other hits.

        `hits` is the digest of the hits, `pictures(layer, unit)` all files that a unit needs: one that is missing or, after
        a power cut, empty is not drawn.
        """
        self._hits = hits
        found = _read_json(self._record)
        try:
            if found["hits"] == hits:
                self.drawn = {
                    name: {
                        unit: float(found["drawn"][name][str(unit)])
                        for unit in units
                        if str(unit) in found["drawn"].get(name, {}) and all(map(_has_content, pictures(name, unit)))
                    }
                    for name, units in chosen.items()
                }
                return
        except (KeyError, TypeError, ValueError, AttributeError):
            pass  # no record, or a damaged one
        for folder in self.atlas.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    def record(self, layer: str, differences: dict[int, float]) -> None:
        """Note that the pictures of these units of `layer`, and all views that they need, are on the disk."""
        self.drawn.setdefault(layer, {}).update(differences)
        atomic_write(self._record, json.dumps({"hits": self._hits, "drawn": self.drawn}).encode())

    def finish(self) -> None:
        """Put the finished atlas in its place."""
        if self.out.exists():
            self.out.rmdir()  # empty, or it would have been refused
        self.atlas.rename(self.out)  # a kill after this leaves a record without pictures, which `go_on_drawing` sees
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self, key: Key, chosen: dict[str, list[int]], network: str) -> None:
        """Begin, or see that what was begun is the same. Raises `DeconvnetError`, which says what differs, if not."""
        file = self.folder / "work.json"
        if not file.exists():
            content = {"format": _FORMAT, "key": key.as_json(), "units": chosen, "network": network}
            atomic_write(file, json.dumps(content).encode())
            return
        found = _read_json(file)
        try:
            different = key.differences(Key.from_json(found["key"])) if found["format"] == _FORMAT else "another format"
            different = different or ("other units" if found["units"] != chosen else "")
            different = different or (f"another network ({found['network']})" if found["network"] != network else "")
        except (KeyError, TypeError, ValueError, AttributeError):
            different = "a damaged work.json"
        if different:
            raise DeconvnetError(
                f"{self.folder} holds an unfinished atlas with {different}: finish it with the command that began it, or "
                "remove that folder."
            )

    def remove_if_empty(self) -> bool:
        """Remove the folder if there is no work in it; returns whether."""
        states = (self.state, *self.folder.glob(".mined-process-*.safetensors"))
        if empty := not any(file.exists() for file in (*states, self._record)):
            shutil.rmtree(self.folder, ignore_errors=True)
        return empty


@contextmanager
def unfinished(out: Path, key: Key, chosen: dict[str, list[int]], network: str) -> Iterator[Unfinished]:
    """The place to make the atlas `out` of `chosen` units in, locked against other processes; `network` is its full name.

    An error that leaves work behind says so in a note. Raises `UsageError` if `out` exists, `DeconvnetError` if another
    process is making it, if other work lies in its place, or if something cannot be written.
    """
    work = Unfinished(out)
    with locked(work.folder / "lock", f"Another process is making {out}: wait for it, or choose another --out."):
        fits = False
        try:
            refuse_existing(out)  # that process may just have finished it
            work.check(key, chosen, network)
            fits = True
            yield work
        except BaseException as error:
            if not work.remove_if_empty() and isinstance(error, HitsChanged):
                error.add_note(f"Remove {work.folder}, where the outdated work lies, and give the command again.")
            elif fits and work.folder.exists():
                error.add_note(
                    f"What is done so far is kept in {work.folder}: the same command goes on with it, or begins anew if you "
                    "remove that folder."
                )
            raise


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _read_json(file: Path) -> dict:  # type: ignore[type-arg]
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
