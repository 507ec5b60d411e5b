"""The result of Table 1 and Fig. 8: how consistently masking a part changes the features of different images."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from deconvnet.data import ImageSet
from deconvnet.experiments.table1_correspondence.plot import MAX_SHOWN_IMAGES, correspondence_figure

#: The paper's Table 1, of five dogs: mean and standard deviation of Δ at layers 5 and 7.
PAPER_TABLE_1 = {
    "right eye": ((0.067, 0.007), (0.069, 0.015)),
    "left eye": ((0.069, 0.007), (0.068, 0.013)),
    "nose": ((0.079, 0.017), (0.069, 0.011)),
    "random": ((0.107, 0.017), (0.073, 0.014)),
}


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
        shown = min(len(self.image_set), MAX_SHOWN_IMAGES)
        of_which = f", of which {shown} are shown" if shown < len(self.image_set) else ""
        footnote = (
            f"mean ± deviation over pairs of {len(self.image_set)} photos{of_which}; p: how often chance is as far out; "
            f"masks of {self.mask_size} pixels, {self.random_masks} random ones a photo, seed {self.seed}; photos "
            f"{self.image_set.digest[:12]}"
        )
        return correspondence_figure(self.network, self.pictures, self.column_titles, self.findings, footnote)


def _mean_and_deviation(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"
