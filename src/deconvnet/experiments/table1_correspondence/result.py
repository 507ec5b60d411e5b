"""The result of Table 1 and Fig. 8: how consistently masking a part changes the features of different images."""

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table

from deconvnet.data import ImageSet
from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.experiments.table1_correspondence.hamming import p_value
from deconvnet.formatting import shorten
from deconvnet.projection.picture import tile_grid

#: The paper's Table 1, of five dogs: mean and standard deviation of Δ at layers 5 and 7.
PAPER_TABLE_1 = {
    "right eye": ((0.067, 0.007), (0.069, 0.015)),
    "left eye": ((0.069, 0.007), (0.068, 0.013)),
    "nose": ((0.079, 0.017), (0.069, 0.011)),
    "random": ((0.107, 0.017), (0.073, 0.014)),
}

# The figure: pixels of a picture and of the gap between pictures, rows of pictures at most.
_PICTURE, _GAP, _DPI, _MAX_ROWS = 150, 6, 150, 12

# Inches: left margin, and top margin down to the pictures.
_LEFT_MARGIN, _TOP_MARGIN = 0.2, 1.0

#: Letters of a part's name that fit above its column.
_MAX_TITLE_LENGTH = 16


@dataclass(frozen=True)
class RandomMaskScore:
    """Δ of random masks at one layer, over all pairs of different images and all draws."""

    mean: float
    """0 to 1."""
    deviation: float
    """The standard deviation over the same pairs and draws."""
    changed: float
    """The fraction of activations that a mask changes."""

    def __str__(self) -> str:
        return _mean_and_deviation(self.mean, self.deviation)


@dataclass(frozen=True)
class PartScore:
    """Δ of one part at one layer: how different the changes are that masking it makes in different images."""

    mean: float
    """Δ: the fraction of activations whose changes differ in sign, 0 to 1, mean over pairs of different images; lower is
    more consistent.
    """
    deviation: float | None
    """The standard deviation over the same pairs; None for a single pair."""
    p: float
    """Two-sided p-value under random masks: each image's mask is drawn from those of the part and the random ones."""
    translated_mean: float | None
    """The mean Δ of the part's masks translated equally in all images, off the parts; None if there is no room."""
    p_translated: float | None
    """Two-sided p-value under these translations; None likewise."""
    num_translations: int
    changed: float
    """The fraction of activations that a mask changes."""

    @classmethod
    def from_distances(cls, distances: np.ndarray, p: float, translated_means: np.ndarray, changed: float) -> "PartScore":
        """From the distances of all pairs of images, and Δ for each translation."""
        mean, has_translations = float(distances.mean()), bool(len(translated_means))
        return cls(
            mean=mean,
            deviation=float(distances.std()) if len(distances) > 1 else None,
            p=p,
            translated_mean=float(translated_means.mean()) if has_translations else None,
            p_translated=p_value(mean, translated_means) if has_translations else None,
            num_translations=len(translated_means),
            changed=changed,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "p": self.p,
            "moved": self.translated_mean,
            "p_moved": self.p_translated,
            "steps": self.num_translations,
            "changed": self.changed,
        }

    def __str__(self) -> str:
        return f"{_mean_and_deviation(self.mean, self.deviation)} (p = {self.p:.2g})"

    @property
    def translated_text(self) -> str:
        """Δ of the translated masks, with its p-value."""
        if self.translated_mean is None:
            return "no room"
        return f"{self.translated_mean:.3f} (p = {self.p_translated:.2g})"


@dataclass(frozen=True)
class Correspondence:
    """Table 1 and Fig. 8 for one network and some images."""

    network: str
    """Full name."""
    sha256: str
    image_set: ImageSet
    mask_size: int
    """Side of the square masks, in pixels of the view."""
    masks_per_part: int
    """In each image."""
    random_masks: int
    """In each image."""
    permutations: int
    seed: int
    scores: dict[str, dict[str, PartScore]]
    """By layer, then by part."""
    random_scores: dict[str, RandomMaskScore]
    """By layer."""
    pictures: np.ndarray
    """(images, 1 + parts + random masks shown, crop, crop, 3) uint8: an image, its parts masked, random masks."""
    column_titles: list[str]
    """Of the second axis of `pictures`."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "mask": self.mask_size,
            "masks_per_part": self.masks_per_part,
            "random_masks": self.random_masks,
            "permutations": self.permutations,
            "seed": self.seed,
            "over": "pairs of different photos; random masks: pairs and draws",
            "scores": {
                layer: {part: score.as_json() for part, score in part_scores.items()}
                for layer, part_scores in self.scores.items()
            },
            "random": {layer: asdict(score) for layer, score in self.random_scores.items()},
            "findings": self.findings,
            "paper": {
                part: {"layer 5": list(layer_5), "layer 7": list(layer_7)}
                for part, (layer_5, layer_7) in PAPER_TABLE_1.items()
            },
        }

    def table(self) -> Table:
        """Table 1 with a row for each layer and part, and the paper's values below it."""
        paper = "; ".join(f"{part} {layer_5[0]:.3f}, {layer_7[0]:.3f}" for part, (layer_5, layer_7) in PAPER_TABLE_1.items())
        table = Table(
            "layer",
            "masked",
            "Δ (p: random masks)",
            "moved alike",
            "changed",
            title=f"{self.network}, {len(self.image_set)} photos",
            caption=f"Lower Δ: more consistent. The paper, five dogs, layers 5 and 7: {paper}.",
        )
        for layer, part_scores in self.scores.items():
            for part, score in part_scores.items():
                table.add_row(layer, part, str(score), score.translated_text, f"{score.changed:.1%}")
            random_score = self.random_scores[layer]
            table.add_row(layer, "random", str(random_score), "", f"{random_score.changed:.1%}")
            table.add_section()
        return table

    @property
    def findings(self) -> list[str]:
        """A sentence for each layer and part."""
        sentences = []
        for layer, part_scores in self.scores.items():
            random_score = self.random_scores[layer]
            for part, score in part_scores.items():
                comparison = "more" if score.mean < random_score.mean else "less"
                translations = f", {score.num_translations} steps" if score.num_translations else ""
                sentences.append(
                    f"{layer}, {part}: {score}, {comparison} consistent than random masks, {random_score}; moved alike in "
                    f"all photos {score.translated_text}{translations}."
                )
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"correspondence": self.figure()}

    def figure(self) -> Figure:
        """Fig. 8 with a row for each image, and the findings below it."""
        shown, step = self.pictures[:_MAX_ROWS], (_PICTURE + _GAP) / _DPI
        width = max(_LEFT_MARGIN * 2 + step * len(self.column_titles), 8.0)
        lines = [
            line for finding in self.findings for line in textwrap.wrap(finding, int(width * 14.5), subsequent_indent="   ")
        ]
        height = _TOP_MARGIN + step * len(shown) + 0.2 * len(lines) + 0.6
        figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
        title = f"Correspondence: {self.network}"
        fitting_font_size = (width - 2 * _LEFT_MARGIN) * 72 / (0.69 * len(title))  # a bold letter is about 0.69 em wide
        add_text_inches(figure, _LEFT_MARGIN, 0.35, title, fontsize=min(11, fitting_font_size), fontweight="bold")
        subtitle = "Δ: the share of activations whose change differs in sign; the lower, the more consistent"
        add_text_inches(figure, _LEFT_MARGIN, 0.6, subtitle, fontsize=7)
        for column, name in enumerate(self.column_titles):
            text = shorten(name, _MAX_TITLE_LENGTH)
            add_text_inches(figure, _LEFT_MARGIN + column * step, _TOP_MARGIN - 0.08, text, fontsize=7)
        pictures = shown.reshape(-1, *shown.shape[2:])
        grid = tile_grid(
            np.stack([_resize(picture) for picture in pictures]), len(self.column_titles), gap=_GAP, background=255
        )
        axes = add_axes_inches(figure, _LEFT_MARGIN, _TOP_MARGIN, grid.shape[1] / _DPI, grid.shape[0] / _DPI)
        axes.imshow(grid)
        axes.axis("off")
        findings_top = _TOP_MARGIN + step * len(shown) + 0.25
        for index, line in enumerate(lines):
            add_text_inches(figure, _LEFT_MARGIN, findings_top + 0.2 * index, line, fontsize=7)
        of_which = f", of which {len(shown)} are shown" if len(shown) < len(self.image_set) else ""
        footnote = (
            f"mean ± deviation over pairs of {len(self.image_set)} photos{of_which}; p: how often chance is as far out; "
            f"masks of {self.mask_size} pixels, {self.random_masks} random ones a photo, seed {self.seed}; photos "
            f"{self.image_set.digest[:12]}"
        )
        add_text_inches(figure, _LEFT_MARGIN, height - 0.12, footnote, fontsize=5.5, color="0.35")
        return figure


def _mean_and_deviation(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def _resize(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS))
