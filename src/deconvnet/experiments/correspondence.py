"""Table 1 and Fig. 8: does a network see that the parts of one object correspond to those of another?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from deconvnet.experiments.inches import axes_at, write_at
from deconvnet.images import Photos
from deconvnet.projection.picture import in_rows

#: What the paper prints of five dogs (mean ± deviation), at layers 5 and 7.
PAPER = {
    "right eye": ((0.067, 0.007), (0.069, 0.015)),
    "left eye": ((0.069, 0.007), (0.068, 0.013)),
    "nose": ((0.079, 0.017), (0.069, 0.011)),
    "random": ((0.107, 0.017), (0.073, 0.014)),
}

# The figure: pixels of a picture, its rows at most, inches at the left and above.
_SIDE, _GAP, _ROWS, _DPI, _LEFT, _ABOVE = 150, 6, 12, 150, 0.2, 1.0


@dataclass(frozen=True)
class Score:
    """How unlike the changes are that masking one part makes in different photos; lower is more consistent."""

    mean: float
    """Over all pairs of different photos (of random masks: and draws), the share of a layer's activations whose changes
    differ in sign, 0 to 1.
    """
    deviation: float
    """The standard deviation over the same."""
    p: float | None
    """How often a mean is as far out, to either side, if masks are taken at random from all of each photo's; None for random
    masks.
    """

    def as_json(self) -> dict[str, float | None]:
        return {"mean": self.mean, "deviation": self.deviation, "p": self.p}

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.deviation:.3f}" + ("" if self.p is None else f" (p = {self.p:.2g})")


@dataclass(frozen=True)
class Correspondence:
    """Table 1 for a network and a set of photos."""

    network: str
    """Full name."""
    sha256: str
    photos: Photos
    mask: int
    """Side of the square masks, in pixels of the view."""
    masks: int
    """Of each part, in each photo."""
    draws: int
    """Random masks in each photo."""
    permutations: int
    seed: int
    scores: dict[str, dict[str, Score]]
    """By layer, then by part; "random" last."""
    pictures: np.ndarray
    """(photos, 1 + parts + random ones shown, crop, crop, 3) uint8: a photo, its parts masked, random masks."""
    columns: list[str]
    """What the pictures of a row are."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "images": {"digest": self.photos.digest, "paths": list(self.photos.paths)},
            "mask": self.mask,
            "masks_per_part": self.masks,
            "random_masks": self.draws,
            "permutations": self.permutations,
            "seed": self.seed,
            "over": "pairs of different photos; random masks: pairs and draws",
            "scores": {
                layer: {part: score.as_json() for part, score in found.items()} for layer, found in self.scores.items()
            },
            "paper": {part: {"layer 5": list(values[0]), "layer 7": list(values[1])} for part, values in PAPER.items()},
        }

    def table(self) -> Table:
        """Table 1, with the paper's rows below."""
        table = Table("masked", *self.scores, title=f"{self.network}, {len(self.photos)} photos")
        for part in next(iter(self.scores.values())):
            table.add_row(part, *(str(found[part]) for found in self.scores.values()))
        table.add_section()
        for part, values in PAPER.items():
            if len(self.scores) == 2:
                table.add_row(
                    f"[dim]paper: {part}[/dim]", *(f"[dim]{mean:.3f} ± {spread:.3f}[/dim]" for mean, spread in values)
                )
        return table

    def figures(self) -> dict[str, Figure]:
        return {"correspondence": self.figure()}

    def figure(self) -> Figure:
        """Fig. 8, a row for each photo, and Table 1 below it."""
        shown = self.pictures[:_ROWS]
        step = (_SIDE + _GAP) / _DPI
        lines = [
            f"{layer}:  " + ",   ".join(f"{part} {score}" for part, score in found.items())
            for layer, found in self.scores.items()
        ]
        size = max(_LEFT * 2 + step * len(self.columns), 8.0), _ABOVE + step * len(shown) + 0.2 * len(lines) + 0.6
        figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
        write_at(figure, _LEFT, 0.35, self.network, fontsize=11, fontweight="bold")
        for column, name in enumerate(self.columns):
            write_at(figure, _LEFT + column * step, _ABOVE - 0.08, name, fontsize=7)
        tiles = shown.reshape(-1, *shown.shape[2:])
        sheet = in_rows(np.stack([_small(tile) for tile in tiles]), len(self.columns), gap=_GAP, background=255)
        axes = axes_at(figure, _LEFT, _ABOVE, sheet.shape[1] / _DPI, sheet.shape[0] / _DPI)
        axes.imshow(sheet)
        axes.axis("off")
        top = _ABOVE + step * len(shown) + 0.25
        for number, line in enumerate(lines):
            write_at(figure, _LEFT, top + 0.2 * number, line, fontsize=7)
        about = (
            f"share of activations whose change differs in sign, mean ± deviation over pairs of {len(self.photos)} photos; "
            f"masks of {self.mask} pixels, {self.draws} random ones a photo, seed {self.seed}; photos "
            f"{self.photos.digest[:12]}"
        )
        write_at(figure, _LEFT, size[1] - 0.12, about, fontsize=5.5, color="0.35")
        return figure


def _small(tile: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(tile).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
