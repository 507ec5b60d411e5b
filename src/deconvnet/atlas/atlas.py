"""An atlas on disk."""

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from PIL import Image

from deconvnet.atlas.build import FORMAT, build_atlas
from deconvnet.atlas.figures import layer_figure
from deconvnet.atlas.tables import check_file, read_table
from deconvnet.data import ImageSet
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network


class Atlas:
    """A folder with every unit's strongest activations over a set of photos, their patches and projections (Fig. 2).

    What is in it: docs/file-formats.md. Its pages open from its index.html.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the atlas in `folder`. Raises `DeconvnetError` if there is none."""
        self.folder = Path(folder)
        if not (self.folder / "atlas.json").is_file():
            raise DeconvnetError(f"There is no atlas in {folder}: pass a folder that `deconvnet atlas` or `demo` wrote.")
        try:
            check_file(self.folder / "atlas.json")
            self.description: dict[str, Any] = json.loads((self.folder / "atlas.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, DeconvnetError) as error:
            raise DeconvnetError(f"There is no atlas in {folder}: {str(error).rstrip('.')}.") from None
        if not isinstance(self.description, dict) or self.description.get("format") != FORMAT:
            raise DeconvnetError(f"The atlas in {folder} was made by another version of deconvnet: make it again.")

    @classmethod
    def build(
        cls,
        network: Network,
        images: Path | str | Iterable[Path | str] | ImageSet,
        out: Path | str,
        layers: Sequence[str] | None = None,
        units: Sequence[int] | None = None,
        top: int = 9,
        *,
        batch_size: int = 32,
        workers: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Mine `images` with `network` and write the atlas to the new folder `out`, which appears only when it is complete.

        `layers` are names (default: the convolutional layers), `units` numbers that are taken in each of them (default:
        all), `top` how many photos to show of each unit. Work that was interrupted is kept in a
        hidden folder beside `out`, and the same call goes on with it.

        Raises `UsageError` if `out` exists already or a layer does not, `DeconvnetError` if `out` cannot be written, another
        process is making it, or unfinished work of another kind lies in its place, and what `mine` and `project_units` raise.
        """
        build_atlas(
            network,
            images,
            Path(out),
            layers,
            units,
            top,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        return cls(os.path.realpath(out))  # "new/../atlas" is there, but "new" is not

    def __repr__(self) -> str:
        photos = self.description["images"]["read"]
        return f"<Atlas {self.folder}: {self.description['network']['full_name']} over {photos:,} photos>"

    @property
    def layers(self) -> list[str]:
        """Names of the layers in it."""
        return [entry["name"] for entry in self.description["layers"]]

    @cached_property
    def hits(self) -> list[dict[str, str]]:
        """The rows of hits.csv, by column, as text: layer, unit, rank from 1, image, value, place, box in input pixels."""
        return read_table(self.folder / "hits.csv")

    @cached_property
    def units(self) -> list[dict[str, str]]:
        """The rows of units.csv, by column, as text: the share of photos in which the unit is active, selectivity …"""
        return read_table(self.folder / "units.csv")

    def picture(self, layer: str, unit: int) -> Image.Image:
        """The picture of one unit: its projections beside its patches. Raises `DeconvnetError` if it is not there."""
        try:
            with Image.open(self.folder / layer / f"{unit:04d}.webp") as picture:
                return picture.convert("RGB")
        except FileNotFoundError:
            raise DeconvnetError(f"{self!r} has no unit {unit} in {layer}.") from None

    def figure(self, layer: str, units: Sequence[int] | None = None, seed: int = 0) -> Image.Image:
        """The paper's Fig. 2 for one layer: projections on the left (of the first layer: the filters), patches on the right.

        `units` default to a random subset of 16 of those that are ever active, drawn with `seed`. Raises `UsageError` for a
        layer or a unit that the atlas does not have.
        """
        return layer_figure(self.folder, self.description, layer, units, seed)
