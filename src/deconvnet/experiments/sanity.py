"""What a projection and an occlusion map depend on: results of the randomisation test, and of the deletion test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from deconvnet.experiments.inches import axes_at, write_at
from deconvnet.images import Photos
from deconvnet.projection import grey_scale, to_pixels

MEASURES = {"signed": "rank correlation", "absolute": "rank correlation of sizes", "ssim": "SSIM"}

_COLOURS = ("#3b6fb6", "#e08214", "#2a9d5c", "#b63679", "#7a5195", "#8c6d31")
# Inches: a plot, between plots, a picture, left, above.
_PLOT, _BETWEEN, _PICTURE, _LEFT, _ABOVE = 3.2, 0.75, 1.15, 1.35, 0.9


@dataclass(frozen=True)
class Likeness:
    """Of the projections of one rule set: by measure (photos, draws, parts randomised), how like they stay the original."""

    values: dict[str, np.ndarray]
    baseline: dict[str, float]
    """The same between projections of two networks that are random altogether, drawn apart: mean over photos and draws."""


@dataclass(frozen=True)
class Deletion:
    """What becomes of the probability of a class as more and more of a photo is covered."""

    shares: list[float]
    """Of the positions covered, 0 to 1."""
    by_map: np.ndarray
    """(photos, shares) the most important positions first, as the occlusion map has them."""
    at_random: np.ndarray
    """(photos, shares) in random order."""

    @property
    def areas(self) -> tuple[float, float]:
        """Mean probability over all shares, by the map and at random: the lower the first, the better the map."""
        return float(np.trapezoid(self.by_map.mean(0), self.shares)), float(
            np.trapezoid(self.at_random.mean(0), self.shares)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "shares": self.shares,
            "by_map": self.by_map.tolist(),
            "at_random": self.at_random.tolist(),
            "areas": {"by_map": self.areas[0], "at_random": self.areas[1]},
        }


@dataclass(frozen=True)
class Sanity:
    """What the pictures of one network depend on, over some photos."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """Whose strongest activation is projected."""
    parts: list[str]
    """Submodules in the order in which they are made random: from the layer down."""
    photos: Photos
    rules: dict[str, Likeness]
    """By name of the rule set."""
    pictures: dict[str, list[Tensor]]
    """Of the first photo, by rule set: the projection, then with each more part random, (3, h, w)."""
    occlusion_parts: list[str]
    """Submodules as they are made random for occlusion maps: from the classifier down; empty for a trunk."""
    occlusion: np.ndarray | None
    """(photos, draws, parts) rank correlation of the maps of the class's probability with the original."""
    deletion: Deletion | None
    draws: int
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "randomised": self.parts,
            "images": {"digest": self.photos.digest, "paths": list(self.photos.paths)},
            "draws": self.draws,
            "seed": self.seed,
            "projections": {
                name: {
                    measure: {
                        "mean": _means(values),
                        "each": [[_finite(row) for row in photo] for photo in values.tolist()],
                        "unrelated": _finite([likeness.baseline[measure]])[0],
                    }
                    for measure, values in likeness.values.items()
                }
                for name, likeness in self.rules.items()
            },
            "occlusion": None
            if self.occlusion is None
            else {"randomised": self.occlusion_parts, "mean": _means(self.occlusion)},
            "deletion": self.deletion and self.deletion.as_json(),
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """What is left when all is random, beside what unrelated weights have in common anyway."""
        found = []
        for name, likeness in self.rules.items():
            parts = []
            for measure, values in likeness.values.items():
                parts.append(f"{measure} {_said(_means(values)[-1])} (unrelated weights: {likeness.baseline[measure]:.2f})")
            found.append(f"{name}, with all weights up to {self.layer} random: likeness to the original {', '.join(parts)}.")
        if self.occlusion is not None:
            end = _said(_means(self.occlusion)[-1])
            found.append(f"Occlusion maps, with all weights random: rank correlation with the original {end}.")
        if self.deletion is not None:
            by_map, at_random = self.deletion.areas
            found.append(
                f"Covering squares in the order of the occlusion map leaves the class a mean probability of {by_map:.1%}, "
                f"in random order {at_random:.1%}."
            )
        return found

    def figures(self) -> dict[str, Figure]:
        return {"sanity": self.figure()}

    def figure(self) -> Figure:
        """Curves of likeness, and the first photo's pictures as more and more is random."""
        names, lines = list(self.rules), self.findings
        plots = 3 + (self.occlusion is not None) + (self.deletion is not None)
        width = max(_LEFT + plots * (_PLOT + _BETWEEN), _LEFT + (len(self.parts) + 1) * (_PICTURE + 0.05) + 0.3)
        pictures_top = _ABOVE + _PLOT + 1.25
        text_top = pictures_top + len(names) * (_PICTURE + 0.05) + 0.35
        height = text_top + 0.2 * len(lines) + 0.3
        figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
        write_at(figure, 0.3, 0.35, self.network, fontsize=13, fontweight="bold")
        for number, (measure, title) in enumerate(MEASURES.items()):
            axes = axes_at(figure, _LEFT - 0.6 + number * (_PLOT + _BETWEEN), _ABOVE, _PLOT, _PLOT)
            for colour, (name, likeness) in zip(_COLOURS, self.rules.items(), strict=False):
                means = [1.0, *(value if value is not None else np.nan for value in _means(likeness.values[measure]))]
                axes.plot(means, color=colour, marker="o", markersize=3, label=name)
                axes.axhline(likeness.baseline[measure], color=colour, linewidth=0.7, linestyle=":")
            axes.set_xticks(range(len(self.parts) + 1), ["none", *self.parts], rotation=90, fontsize=7)
            axes.set_title(f"{title}\n(dotted: unrelated weights)", fontsize=9)
            axes.set_ylim(-0.15, 1.03)
            if number == 0:
                axes.legend(fontsize=7, frameon=False)
        left = _LEFT - 0.6 + 3 * (_PLOT + _BETWEEN)
        if self.occlusion is not None:
            axes = axes_at(figure, left, _ABOVE, _PLOT, _PLOT)
            axes.plot(
                [1.0, *(value if value is not None else np.nan for value in _means(self.occlusion))], "k-o", markersize=3
            )
            axes.set_xticks(range(len(self.occlusion_parts) + 1), ["none", *self.occlusion_parts], rotation=90, fontsize=7)
            axes.set_title("occlusion maps:\nrank correlation", fontsize=9)
            axes.set_ylim(-0.15, 1.03)
            left += _PLOT + _BETWEEN
        if self.deletion is not None:
            axes = axes_at(figure, left, _ABOVE, _PLOT, _PLOT)
            axes.plot(self.deletion.shares, self.deletion.by_map.mean(0), color=_COLOURS[0], label="by the occlusion map")
            axes.plot(self.deletion.shares, self.deletion.at_random.mean(0), color="0.6", label="in random order")
            axes.set_title("probability of the class\nas more is covered", fontsize=9)
            axes.set_ylim(0, 1)
            axes.legend(fontsize=7, frameon=False)
        for row, name in enumerate(names):
            top = pictures_top + row * (_PICTURE + 0.05)
            write_at(figure, 0.1, top + _PICTURE / 2, name, fontsize=7)
            for column, picture in enumerate(self.pictures[name]):
                axes = axes_at(figure, _LEFT + column * (_PICTURE + 0.05), top, _PICTURE, _PICTURE)
                axes.imshow(to_pixels(picture, grey_scale(picture)))
                axes.axis("off")
                if row == 0:
                    axes.set_title(["none", *self.parts][column], fontsize=6, pad=2)
        for number, line in enumerate(lines):
            write_at(figure, 0.3, text_top + 0.2 * number, line, fontsize=8)
        about = (
            f"{len(self.photos)} photos, digest {self.photos.digest[:12]}; {self.draws} draws of weights, seed {self.seed}"
        )
        write_at(figure, 0.3, height - 0.12, about, fontsize=6.5, color="0.35")
        return figure


def _means(values: np.ndarray) -> list[float | None]:
    """Over photos and draws, of what is finite."""
    flat = values.reshape(-1, values.shape[-1])
    return [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in flat.T]


def _said(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _finite(values: list[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]
