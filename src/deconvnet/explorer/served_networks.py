"""What is served: atlases, and the networks that belong to them."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.atlas import Atlas
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.class_labels import count_classes
from deconvnet.formatting import field_seen
from deconvnet.models import Network, check_runs_no_code, load

#: Images of an atlas that the page offers to try.
_MAX_SAMPLES = 10


class LoadedNetwork:
    """A network in memory, which can be shown images."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.class_count = _count_classes(network)
        """How many classes its output has scores for; 0 if it does not classify."""


@dataclass(frozen=True)
class ServedModel:
    """An atlas, a network, or both."""

    key: str
    """Its name in addresses."""
    name: str
    """The network's full name."""
    atlas: "AtlasDescription | None"
    loaded: LoadedNetwork | None
    """The network, if it is available."""
    unavailable_reason: str | None
    """One sentence on why the network is not available."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for the page."""
        network = self.loaded.network if self.loaded else None
        return {
            "key": self.key,
            "name": self.name,
            "atlas": self.key if self.atlas else None,
            "classifies": bool(self.loaded and self.loaded.class_count),
            "crop": network.input_shape[2] if network else None,
            "reason": self.unavailable_reason,
            "classes": self.loaded.class_count if self.loaded else 0,
            "layers": [
                {
                    "name": layer.name,
                    "units": layer.units,
                    "rows": layer.map_size[0],
                    "columns": layer.map_size[1],
                    "convolutional": layer.convolutional,
                    "field": layer.field.as_json(),
                    "sees": field_seen(layer.field.size, layer.field.status),
                }
                for layer in (network.layers.values() if network else ())
            ],
            "pictured": self.atlas.drawn_units if self.atlas else {},
            "samples": self.atlas.sample_urls(self.key) if self.atlas else [],
        }


def find_models(folders: Sequence[Path], networks: Sequence[Network], device: str = "cpu") -> list[ServedModel]:
    """The atlases in `folders`, each with its network, and those of `networks` that belong to none of them.

    Networks are matched by digest; the other atlases' networks are loaded on `device` if that is safe. An atlas may come
    from a stranger, so the address that it names is only loaded if it stands for weights on this machine and neither runs
    code nor downloads anything (`check_runs_no_code`), and only used if its digest is that of the atlas.

    Raises `DeconvnetError` if a folder holds no atlas, and `UsageError` for a network without an atlas that takes no photos.
    """
    atlases = [AtlasDescription(folder) for folder in folders]
    user_networks = [LoadedNetwork(network) for network in networks]
    # Without an atlas no digest is needed, and computing one takes a moment.
    by_digest = {loaded.network.digest: loaded for loaded in user_networks} if atlases else {}
    models: list[ServedModel] = []
    refused: set[int] = set()
    for atlas in atlases:
        reason = None
        if atlas.network_digest not in by_digest:
            try:
                by_digest[atlas.network_digest] = LoadedNetwork(_load_network(atlas).to(device))
            except DeconvnetError as error:
                reason = str(error)
        loaded = by_digest.get(atlas.network_digest)
        if loaded and (why := _why_no_photos(loaded.network)):
            refused.add(id(loaded))
            loaded, reason = None, why
        name = loaded.network.full_name if loaded else atlas.network_name
        models.append(ServedModel(_unique_key(atlas.folder.resolve().name, models), name, atlas, loaded, reason))
    used = {id(model.loaded) for model in models} | refused
    for loaded in user_networks:
        if id(loaded) not in used:
            network = loaded.network
            if why := _why_no_photos(network):
                raise UsageError(why)
            models.append(ServedModel(_unique_key(network.name, models), network.full_name, None, loaded, None))
    return models


class AtlasDescription:
    """The entries of an atlas's `atlas.json` that the server uses, checked: the file may hold anything."""

    def __init__(self, folder: Path) -> None:
        """Raises `DeconvnetError` if `folder` holds no atlas or its description is damaged."""
        self.folder = folder
        description = Atlas(folder).description
        try:
            network = description["network"]
            self.network_name, self.network_digest = network["full_name"], network["digest"]
            self.network_address = network.get("address", "")
            """What `load` takes; empty if it is not known."""
            self.drawn_units = {layer["name"]: layer["chosen"] for layer in description["layers"]}
            """By layer, the units that have pictures: their indices, or "all"."""
        except (AttributeError, LookupError, TypeError):
            raise DeconvnetError(f"{_damaged(folder)} does not say what made it.") from None
        texts = (self.network_name, self.network_digest, self.network_address, *self.drawn_units)
        if not all(isinstance(text, str) for text in texts):
            raise DeconvnetError(f"{_damaged(folder)} does not say what made it.")
        for units in self.drawn_units.values():
            if units != "all" and not (isinstance(units, list) and all(type(unit) is int for unit in units)):
                raise DeconvnetError(f"{_damaged(folder)} does not say which units it shows.")

    def sample_urls(self, key: str) -> list[str]:
        """Paths of URLs of a few of its images, evenly spaced."""
        names = sorted(file.name for file in (self.folder / "images").glob("*.webp"))
        step = max(1, len(names) // _MAX_SAMPLES)
        return [f"/atlas/{key}/images/{name}" for name in names[step // 2 :: step][:_MAX_SAMPLES]]


def _damaged(folder: Path) -> str:
    return f"The atlas in {folder} is damaged, so make it again: its atlas.json"


def _load_network(atlas: AtlasDescription) -> Network:
    """The network that an atlas names. Raises `DeconvnetError`, whose message says what to pass, if it is not available."""
    address = atlas.network_address
    if not address:
        raise DeconvnetError(
            "This atlas does not say where its network is: pass --network with what was given to deconvnet atlas."
        )
    try:
        check_runs_no_code(address)
    except DeconvnetError as error:
        raise DeconvnetError(f"{error} To use it, pass --network {shlex.quote(address)}, or where it is here.") from None
    try:
        network = load(address)
        digest = network.digest
    except DeconvnetError as error:
        raise DeconvnetError(f"{error} Pass --network and, for weights that it describes, --preprocessing.") from None
    except Exception as error:
        # A stranger's file can be broken in ways that no check foresees; the other atlases must be served all the same.
        raise DeconvnetError(f"The weights in {address} cannot be loaded ({type(error).__name__}: {error}).") from error
    if digest != atlas.network_digest:
        raise DeconvnetError(
            f"The weights in {address} have changed since the atlas was made: pass --network with those that made it."
        )
    return network


def _why_no_photos(network: Network) -> str:
    """Why the live page cannot show photos to a network, in a sentence; empty if it can."""
    try:
        network.preprocessing  # noqa: B018
    except UsageError as error:
        return str(error)
    _, height, width = network.input_shape
    return "" if height == width else f"{network.name} takes {height}×{width} pixels, and the live page shows squares only."


def _unique_key(name: str, models: Sequence[ServedModel]) -> str:
    """`name` in characters that need no escaping in a URL, with a number if one of `models` has that key already."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", os.fsencode(name).decode("ascii", "replace")).strip(".-") or "atlas"
    used, key, number = {model.key for model in models}, plain, 1
    while key in used:
        number += 1
        key = f"{plain}-{number}"
    return key


def _count_classes(network: Network) -> int:
    if not network.classifies:
        return 0
    try:
        return count_classes(network)
    except DeconvnetError:  # the output is no score for each class; the layers can be shown all the same
        return 0
