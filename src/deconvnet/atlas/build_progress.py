"""The work folder of an atlas that is being built, and the record of the units that are drawn."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deconvnet.atlas.project_units import HitsChanged
from deconvnet.mining import MiningKey, MiningResult
from deconvnet.storage import WorkFolder, read_json_object, write_json

_FORMAT = 1


@dataclass
class AtlasWork:
    """The work folder of the atlas `out`. It survives errors and kills, so that the next run can resume."""

    out: Path
    """Where the finished atlas goes; resolved."""
    drawn: dict[str, dict[int, float]] = field(default_factory=dict)
    """Units whose pictures are on disk, by layer, each with the largest difference found while projecting."""
    _hits_digest: str = ""

    @property
    def folder(self) -> WorkFolder:
        return WorkFolder(self.out, "atlas")

    @property
    def atlas(self) -> Path:
        """The folder that is renamed to `out` in the end."""
        return self.folder.path / "atlas"

    @property
    def state_file(self) -> Path:
        """The state of mining."""
        return self.folder.path / "mined.safetensors"

    def unit_file(self, layer: str, unit: int) -> Path:
        """The picture of a unit's projections and patches."""
        return self.atlas / layer / f"{unit:04d}.webp"

    def thumbnail_file(self, layer: str, unit: int) -> Path:
        """The small version of `unit_file`."""
        return self.atlas / layer / f"{unit:04d}-small.webp"

    def view_file(self, image: int) -> Path:
        """The view of an image that the network was shown."""
        return self.atlas / "images" / f"{image:05d}.webp"

    @property
    def _drawn_file(self) -> Path:
        return self.folder.path / "drawn.json"

    @contextmanager
    def open(self, key: MiningKey, units: dict[str, list[int]], network: str) -> Iterator[None]:
        """Hold the folder for the atlas of `units` (by layer) of the network with this full name.

        Raises `UsageError` if `out` exists, `DeconvnetError` if another process is building it, if the folder holds the work
        of a different atlas, or if it cannot be written.
        """
        record = {"format": _FORMAT, "key": key.as_json(), "units": units, "network": network}

        def difference(earlier: dict[str, Any]) -> str:
            if earlier["format"] != _FORMAT:
                return "another format"
            if earlier["key"].get("fast"):
                return "a search with --fast, which this version does not have"
            if key_difference := key.differences(MiningKey.from_json(earlier["key"])):
                return key_difference
            if earlier["units"] != units:
                return "other units"
            return "" if earlier["network"] == network else f"another network ({earlier['network']})"

        with self.folder.open(self._has_work):
            self.folder.begin(record, difference, self._has_work())
            try:
                yield
            except HitsChanged as error:
                error.add_note(f"Remove {self.folder.path}, where the outdated work lies, and give the command again.")
                raise

    def _has_work(self) -> bool:
        state_files = (self.state_file, *self.folder.path.glob(".mined-process-*.safetensors"))
        return any(file.exists() for file in (*state_files, self._drawn_file))

    def resume_drawing(self, hits_digest: str, units: dict[str, list[int]], result: MiningResult) -> None:
        """Set `drawn` to those of `units` that an earlier run drew; remove its pictures if they are of other hits.

        `hits_digest` identifies the hits of `result`. A unit with a file that is missing or, after a power cut, empty does
        not count as drawn.
        """
        self._hits_digest = hits_digest
        try:
            record = read_json_object(self._drawn_file)
            if record["hits"] == hits_digest:
                self.drawn = {
                    layer: {
                        unit: float(record["drawn"][layer][str(unit)])
                        for unit in layer_units
                        if str(unit) in record["drawn"].get(layer, {}) and self._is_drawn(layer, unit, result)
                    }
                    for layer, layer_units in units.items()
                }
                return
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            pass  # no record, or a damaged one
        for folder in self.atlas.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    def _is_drawn(self, layer: str, unit: int, result: MiningResult) -> bool:
        """Whether all files that a unit needs have content."""
        images = result[layer].topk.images[unit]
        views = [self.view_file(image) for image in images[images >= 0].tolist()]
        files = [self.unit_file(layer, unit), self.thumbnail_file(layer, unit), *views]
        return all(file.exists() and file.stat().st_size > 0 for file in files)

    def record_drawn(self, layer: str, differences: dict[int, float]) -> None:
        """Record that the pictures of these units of `layer`, and all views that they need, are on disk."""
        self.drawn.setdefault(layer, {}).update(differences)
        write_json(self._drawn_file, {"hits": self._hits_digest, "drawn": self.drawn})
