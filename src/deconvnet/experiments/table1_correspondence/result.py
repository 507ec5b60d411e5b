"""Table 1 and Fig. 8: does a network see that the parts of one object correspond to those of another?"""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table

from deconvnet.data import ImageSet
from deconvnet.experiments.result import axes_at, write_at
from deconvnet.experiments.table1_correspondence.hamming import p_value
from deconvnet.projection.picture import tile_grid

#: What the paper prints of five dogs (mean, deviation), at layers 5 and 7.
PAPER = {
    "right eye": ((0.067, 0.007), (0.069, 0.015)),
    "left eye": ((0.069, 0.007), (0.068, 0.013)),
    "nose": ((0.079, 0.017), (0.069, 0.011)),
    "random": ((0.107, 0.017), (0.073, 0.014)),
}

#: Letters of a part's name that fit above its column.
_LETTERS = 16

# The figure: pixels of a picture, its rows at most, inches at the left and above.
_SIDE, _GAP, _ROWS, _DPI, _LEFT, _ABOVE = 150, 6, 12, 150, 0.2, 1.0


@dataclass(frozen=True)
class Random:
    """Δ of random masks: the mean over all pairs of different photos and draws, and the deviation over the same."""

    mean: float
    deviation: float
    changed: float
    """The share of activations that a mask changes."""

    def as_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation, "changed": self.changed}

    def __str__(self) -> str:
        return _mean(self.mean, self.deviation)


@dataclass(frozen=True)
class Score:
    """How unlike the changes are that masking one part makes in different photos; lower is more consistent."""

    mean: float
    """Δ: over all pairs of different photos, the share of a layer's activations whose changes differ in sign, 0 to 1."""
    deviation: float | None
    """The standard deviation over the same pairs; None of one pair."""
    p: float
    """How often Δ is as far out, to either side, if each photo's mask is drawn from those of the part and random ones."""
    moved: float | None
    """The mean Δ of the part's masks moved by one step in all photos, off the parts; None if there is no room for that."""
    p_moved: float | None
    """How often Δ of such a step is as far out as that of the part."""
    steps: int
    """How many such steps there are."""
    changed: float
    """The share of activations that a mask changes."""

    @classmethod
    def of(cls, values: np.ndarray, p: float, steps: np.ndarray, changed: float) -> "Score":
        """From the distances of all pairs, and the Δ of each step."""
        mean, moved = float(values.mean()), bool(len(steps))
        return cls(
            mean,
            float(values.std()) if len(values) > 1 else None,
            p,
            float(steps.mean()) if moved else None,
            p_value(mean, steps) if moved else None,
            len(steps),
            changed,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "p": self.p,
            "moved": self.moved,
            "p_moved": self.p_moved,
            "steps": self.steps,
            "changed": self.changed,
        }

    def __str__(self) -> str:
        return f"{_mean(self.mean, self.deviation)} (p = {self.p:.2g})"

    @property
    def beside_moved(self) -> str:
        """In words."""
        if self.moved is None:
            return "no room"
        return f"{self.moved:.3f} (p = {self.p_moved:.2g})"


@dataclass(frozen=True)
class Correspondence:
    """Table 1 for a network and a set of photos."""

    network: str
    """Full name."""
    sha256: str
    image_set: ImageSet
    mask: int
    """Side of the square masks, in pixels of the view."""
    masks: int
    """Of each part, in each photo."""
    draws: int
    """Random masks in each photo."""
    permutations: int
    seed: int
    scores: dict[str, dict[str, Score]]
    """By layer, then by part."""
    random: dict[str, Random]
    """By layer."""
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
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "mask": self.mask,
            "masks_per_part": self.masks,
            "random_masks": self.draws,
            "permutations": self.permutations,
            "seed": self.seed,
            "over": "pairs of different photos; random masks: pairs and draws",
            "scores": {
                layer: {part: score.as_json() for part, score in found.items()} for layer, found in self.scores.items()
            },
            "random": {layer: found.as_json() for layer, found in self.random.items()},
            "findings": self.findings,
            "paper": {part: {"layer 5": list(values[0]), "layer 7": list(values[1])} for part, values in PAPER.items()},
        }

    def table(self) -> Table:
        """Table 1, a row for each layer and part, and what the paper prints below it."""
        paper = "; ".join(f"{part} {five[0]:.3f}, {seven[0]:.3f}" for part, (five, seven) in PAPER.items())
        table = Table(
            "layer",
            "masked",
            "Δ (p: random masks)",
            "moved alike",
            "changed",
            title=f"{self.network}, {len(self.image_set)} photos",
            caption=f"Lower Δ: more consistent. The paper, five dogs, layers 5 and 7: {paper}.",
        )
        for layer, found in self.scores.items():
            for part, score in found.items():
                table.add_row(layer, part, str(score), score.beside_moved, f"{score.changed:.1%}")
            table.add_row(layer, "random", str(self.random[layer]), "", f"{self.random[layer].changed:.1%}")
            table.add_section()
        return table

    @property
    def findings(self) -> list[str]:
        """A sentence for each layer and part."""
        sentences = []
        for layer, found in self.scores.items():
            for part, score in found.items():
                than = "more" if score.mean < self.random[layer].mean else "less"
                steps = f", {score.steps} steps" if score.steps else ""
                sentences.append(
                    f"{layer}, {part}: {score}, {than} consistent than random masks, {self.random[layer]}; moved alike in "
                    f"all photos {score.beside_moved}{steps}."
                )
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"correspondence": self.figure()}

    def figure(self) -> Figure:
        """Fig. 8, a row for each photo, and Table 1 below it."""
        shown, step = self.pictures[:_ROWS], (_SIDE + _GAP) / _DPI
        width = max(_LEFT * 2 + step * len(self.columns), 8.0)
        lines = [line for each in self.findings for line in textwrap.wrap(each, int(width * 14.5), subsequent_indent="   ")]
        size = width, _ABOVE + step * len(shown) + 0.2 * len(lines) + 0.6
        figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
        title = f"Correspondence: {self.network}"
        points = (width - 2 * _LEFT) * 72 / (0.69 * len(title))  # points; a bold letter is about 0.69 of its size wide
        write_at(figure, _LEFT, 0.35, title, fontsize=min(11, points), fontweight="bold")
        write_at(
            figure,
            _LEFT,
            0.6,
            "Δ: the share of activations whose change differs in sign; the lower, the more consistent",
            fontsize=7,
        )
        for column, name in enumerate(self.columns):
            fits = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
            write_at(figure, _LEFT + column * step, _ABOVE - 0.08, fits, fontsize=7)
        tiles = shown.reshape(-1, *shown.shape[2:])
        sheet = tile_grid(np.stack([_small(tile) for tile in tiles]), len(self.columns), gap=_GAP, background=255)
        axes = axes_at(figure, _LEFT, _ABOVE, sheet.shape[1] / _DPI, sheet.shape[0] / _DPI)
        axes.imshow(sheet)
        axes.axis("off")
        top = _ABOVE + step * len(shown) + 0.25
        for number, line in enumerate(lines):
            write_at(figure, _LEFT, top + 0.2 * number, line, fontsize=7)
        of_which = f", of which {len(shown)} are shown" if len(shown) < len(self.image_set) else ""
        about = (
            f"mean ± deviation over pairs of {len(self.image_set)} photos{of_which}; p: how often chance is as far out; masks "
            f"of {self.mask} pixels, {self.draws} random ones a photo, seed {self.seed}; photos {self.image_set.digest[:12]}"
        )
        write_at(figure, _LEFT, size[1] - 0.12, about, fontsize=5.5, color="0.35")
        return figure


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def _small(tile: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(tile).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
