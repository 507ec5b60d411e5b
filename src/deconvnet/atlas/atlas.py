"""An atlas on disk."""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.atlas.build import FORMAT, build_atlas
from deconvnet.atlas.figures import layer_figure
from deconvnet.atlas.tables import check_file, read_table
from deconvnet.data import Inputs
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network


class Atlas:
    """A folder with every unit's strongest activations over a set of images, their patches and projections (Fig. 2).

    Its files are described in docs/file-formats.md. Its pages open from its index.html.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the atlas in `folder`. Raises `DeconvnetError` if there is none, or one of another version."""
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
        images: Inputs,
        out: Path | str,
        layers: Sequence[str] | None = None,
        units: Sequence[int] | None = None,
        top: int = 9,
        *,
        parts: Sequence[Path | str] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Mine `images` with `network`, write the atlas to the new folder `out`, and open it.

        `images` are what `mine` takes but iterables, as hits are read again: a data set has items by index. How its inputs
        are drawn is up to the network's `to_image`.

        `layers` are names (default: the convolutional layers), `units` indices of units to show in each of them (default:
        all; those that a layer does not have are skipped), `top` the number of hits per unit. With `parts`, state files of
        `mine_part` that together cover `images`, nothing is mined; `layers` and `top` are then those of the parts.

        `out` appears only when the atlas is complete. Interrupted work is kept in a hidden folder next to `out`, and the
        same call resumes it.

        Raises `UsageError` if `out` exists or a layer or unit does not, `DeconvnetError` if `out` cannot be written, another
        process is building it, or the hidden folder holds the work of a different atlas; and what `mine`, `merge_parts` and
        `project_units` raise.
        """
        build_atlas(
            network,
            images,
            out,
            layers,
            units,
            top,
            parts=parts,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        return cls(os.path.realpath(out))  # "new/../atlas" is there, but "new" is not

    def __repr__(self) -> str:
        images = self.description["images"]
        count = f"{images['read']:,} {images.get('noun', 'photo')}s"
        return f"<Atlas {self.folder}: {self.description['network']['full_name']} over {count}>"

    @property
    def layers(self) -> list[str]:
        """Names of its layers, in the order in which they run."""
        return [entry["name"] for entry in self.description["layers"]]

    @cached_property
    def hits(self) -> list[dict[str, str]]:
        """The rows of hits.csv, by column, as text: layer, unit, rank from 1, image (its index), value, row and column in
        the feature map, and the receptive field in pixels of the input: left, top, right, bottom.
        """
        return read_table(self.folder / "hits.csv")

    @cached_property
    def units(self) -> list[dict[str, str]]:
        """The rows of units.csv, by column, as text: layer, unit, `active_share` (the fraction of images in which the unit
        is active), `mean_max`, `selectivity`, and the histogram of maxima.
        """
        return read_table(self.folder / "units.csv")

    def picture(self, layer: str, unit: int) -> Image.Image:
        """The picture of one unit: its projections next to its patches, RGB. Raises `DeconvnetError` if there is none."""
        try:
            with Image.open(self.folder / layer / f"{unit:04d}.webp") as picture:
                return picture.convert("RGB")
        except FileNotFoundError:
            raise DeconvnetError(f"{self!r} has no unit {unit} in {layer}.") from None

    def figure(self, layer: str, units: Sequence[int] | None = None, seed: int = 0) -> Image.Image:
        """The paper's Fig. 2 for one layer: projections on the left (of the first layer: the filters), patches on the right.

        `units` default to a random 16 of those that are ever active, drawn with `seed`. Raises `UsageError` for a layer or
        unit that the atlas does not have.
        """
        active = {int(row["unit"]): float(row["active_share"]) > 0 for row in self.units if row["layer"] == layer}
        return layer_figure(self.folder, self.description, layer, active, self._filters, units, seed)

    @property
    def _filters(self) -> Tensor | None:
        """First-layer filters (units, 3, h, w), or None if the atlas does not have them."""
        file = self.folder / "filters.npy"
        return torch.from_numpy(np.load(file, allow_pickle=False)) if file.exists() else None
