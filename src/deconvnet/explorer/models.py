"""Which atlases are served, and with which networks."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.atlas import Atlas
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.class_labels import count_classes
from deconvnet.models import Network, load
from deconvnet.models.registry import check_runs_no_code

#: Photos of an atlas that the page offers.
_SAMPLES = 10


class Ready:
    """A network that answers."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.classes = _classes(network)
        """How many classes it tells apart; 0 for a network whose output is no class scores."""


@dataclass(frozen=True)
class Served:
    """An atlas, a network, or both."""

    key: str
    """What it is called in addresses."""
    name: str
    """The network's full name."""
    book: "Book | None"
    """The atlas, if there is one."""
    ready: Ready | None
    """The network, if it is there …"""
    reason: str | None
    """… and if not, one sentence about why."""

    def as_json(self) -> dict[str, Any]:
        """What the page has to know of it."""
        network = self.ready.network if self.ready else None
        return {
            "key": self.key,
            "name": self.name,
            "atlas": self.key if self.book else None,
            "classifies": bool(self.ready and self.ready.classes),
            "crop": network.preprocessing.crop if network else None,
            "reason": self.reason,
            "classes": self.ready.classes if self.ready else 0,
            "layers": [
                {
                    "name": layer.name,
                    "units": layer.units,
                    "rows": layer.map_size[0],
                    "columns": layer.map_size[1],
                    "convolutional": layer.convolutional,
                    "field": layer.field.as_json(),
                }
                for layer in (network.layers.values() if network else ())
            ],
            "pictured": self.book.pictured if self.book else {},
            "samples": self.book.samples(self.key) if self.book else [],
        }


def find_served(atlases: Sequence[Path], networks: Sequence[Network], device: str = "cpu") -> list[Served]:
    """Match `atlases` with `networks`, and load those networks that atlases name and that are safe to load unasked.

    An atlas may come from a stranger: of its network's address only weights on this disk are loaded, no program and
    nothing that would be downloaded (`check_runs_no_code`), and the network must be, by its digest, the one that made the atlas.

    Raises `DeconvnetError` if a folder holds no atlas.
    """
    books = [Book(folder) for folder in atlases]
    given = [Ready(network) for network in networks]
    known = {ready.network.digest: ready for ready in given} if books else {}
    served: list[Served] = []
    for book in books:
        reason = None
        if book.digest not in known:
            try:
                known[book.digest] = Ready(_load(book).to(device))
            except DeconvnetError as error:
                reason = str(error)
        ready = known.get(book.digest)
        name = ready.network.full_name if ready else book.name
        served.append(Served(_key(book.folder.resolve().name, served), name, book, ready, reason))
    used = {id(entry.ready) for entry in served}
    for one in given:
        if id(one) not in used:
            served.append(Served(_key(one.network.name, served), one.network.full_name, None, one, None))
    return served


class Book:
    """What is used of an atlas.json, which may hold anything. Raises `DeconvnetError` if it is not what it should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        description = Atlas(folder).description
        try:
            network = description["network"]
            self.name, self.digest, self.address = network["full_name"], network["digest"], network.get("address", "")
            self.pictured = {layer["name"]: layer["chosen"] for layer in description["layers"]}
            """By layer, the units that there are pictures of: their numbers, or "all"."""
        except (AttributeError, LookupError, TypeError):
            raise DeconvnetError(f"{_damaged(folder)} does not say what made it.") from None
        if not all(isinstance(value, str) for value in (self.name, self.digest, self.address, *self.pictured)):
            raise DeconvnetError(f"{_damaged(folder)} does not say what made it.")
        for chosen in self.pictured.values():
            if chosen != "all" and not (isinstance(chosen, list) and all(type(unit) is int for unit in chosen)):
                raise DeconvnetError(f"{_damaged(folder)} does not say which units it shows.")

    def samples(self, key: str) -> list[str]:
        """Addresses of a few of its photos."""
        names = sorted(file.name for file in (self.folder / "images").glob("*.webp"))
        step = max(1, len(names) // _SAMPLES)
        return [f"/atlas/{key}/images/{name}" for name in names[step // 2 :: step][:_SAMPLES]]


def _damaged(folder: Path) -> str:
    return f"The atlas in {folder} is damaged, so make it again: its atlas.json"


def _load(book: Book) -> Network:
    """The network that an atlas names. Raises `DeconvnetError`, whose message says what to pass, if it is not to be had."""
    if not book.address:
        raise DeconvnetError(
            "This atlas does not say where its network is: pass --network with what was given to deconvnet atlas."
        )
    try:
        check_runs_no_code(book.address)
    except DeconvnetError as error:
        raise DeconvnetError(
            f"{error} To use it, pass --network {shlex.quote(book.address)}, or where it is here."
        ) from None
    try:
        network = load(book.address)
        digest = network.digest
    except DeconvnetError as error:
        raise DeconvnetError(f"{error} Pass --network and, for weights that it describes, --preprocessing.") from None
    except (
        Exception
    ) as error:  # a stranger's file can hold what no file of ours does; it must not keep the others from being served
        raise DeconvnetError(f"The weights in {book.address} cannot be loaded ({type(error).__name__}: {error}).") from error
    if digest != book.digest:
        raise DeconvnetError(
            f"The weights in {book.address} have changed since the atlas was made: pass --network with those that made it."
        )
    return network


def _key(name: str, served: Sequence[Served]) -> str:
    """`name` in letters that addresses leave alone, and unlike the keys that there are."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", os.fsencode(name).decode("ascii", "replace")).strip(".-") or "atlas"
    taken, key, number = {entry.key for entry in served}, plain, 1
    while key in taken:
        number += 1
        key = f"{plain}-{number}"
    return key


def _classes(network: Network) -> int:
    if not network.classifies:
        return 0
    try:
        return count_classes(network)
    except DeconvnetError:  # its output is something else, and its layers can be looked at all the same
        return 0
