"""The result of the sanity checks: randomisation curves of projections and occlusion maps, and the deletion test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvnet.data import InputSet
from deconvnet.experiments.fig7_occlusion import Occluder
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, RandomisationCurve
from deconvnet.experiments.sanity_checks.plot import sanity_figure
from deconvnet.tracing import Box


@dataclass(frozen=True)
class SanityCheck:
    """How the projections and occlusion maps of one network depend on its weights, for some images."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """The layer whose strongest activation is projected."""
    image_set: InputSet
    positions: list[tuple[int, int]]
    """Row and column of that activation in each image."""
    first_view: np.ndarray
    """(crop, crop, 3) uint8, the first image as the network is shown it."""
    first_box: Box
    """The receptive field of the first image's activation, clipped to the view."""
    projection_curves: dict[str, RandomisationCurve]
    """By rule set, with the measures of `similarity.MEASURES`; pictures are projections (3, h, w)."""
    class_names: list[str] | None
    """The class that the network predicts for each image. None for a trunk, like the next three fields."""
    occluder: Occluder | None
    occlusion_curve: RandomisationCurve | None
    """With the measure "maps"; pictures are occlusion maps (rows, columns) of log-probabilities."""
    deletion_curve: DeletionCurve | None
    draws: int
    seed: int
    shown_as: str = ""
    """How views are shown, in words, unless they are of photos."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "places": [list(position) for position in self.positions],
            "classes": self.class_names,
            "occluder": self.occluder and {"size": self.occluder.size, "stride": self.occluder.stride},
            "draws": self.draws,
            "seed": self.seed,
            "projections": {rule_name: curve.as_json() for rule_name, curve in self.projection_curves.items()},
            "occlusion": self.occlusion_curve and self.occlusion_curve.as_json(),
            "deletion": self.deletion_curve and self.deletion_curve.as_json(),
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """Sentences: the similarity that remains with all weights randomised, next to that of unrelated weights."""
        sentences = []
        for rule_name, curve in self.projection_curves.items():
            similarities = [f"{measure} {_final_similarity(curve, measure)}" for measure in curve.similarity]
            undefined, count = curve.num_undefined("signed"), curve.similarity["signed"].size
            left_out = f"; left out: {undefined} of {count} projections that were all zero" if undefined else ""
            sentences.append(
                f"{rule_name}, with all weights up to {self.layer} random: likeness to the original "
                f"{', '.join(similarities)}{left_out}."
            )
        if self.occlusion_curve is not None:
            sentences.append(
                f"Occlusion maps of {self.occlusion_curve.pictures[0].size} places, with all weights random: rank "
                f"correlation with the original {_final_similarity(self.occlusion_curve, 'maps')}."
            )
        if self.deletion_curve is not None:
            areas = self.deletion_curve.areas
            sentences.append(
                "Covering squares in the order in which they matter by occlusion leaves the network's first answer a mean "
                f"probability of {areas['by_map']:.1%}, from the centre on {areas['from_the_centre']:.1%}, in random order "
                f"{areas['at_random']:.1%}."
            )
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"sanity": self.figure()}

    def figure(self) -> Figure:
        """Similarity and deletion curves, and the first image's pictures as more and more weights are randomised."""
        noun = self.image_set.noun
        footnote = (
            f"{noun}s: {len(self.image_set)}, digest {self.image_set.digest[:12]}; {self.draws} draws of weights, seed "
            f"{self.seed}; pictures: of the first {noun} and draw, each on its own scale"
        )
        if self.occluder is not None:
            footnote += f"; occluder of {self.occluder.size} pixels, steps of {self.occluder.stride}"
        if self.shown_as:
            footnote += f"; {self.shown_as}"
        return sanity_figure(
            self.network,
            self.first_view,
            self.first_box,
            f"{self.class_names[0]}\n(prediction)" if self.class_names else "",
            self.projection_curves,
            self.occlusion_curve,
            self.deletion_curve,
            self.findings,
            footnote,
        )


def _final_similarity(curve: RandomisationCurve, measure: str) -> str:
    """The mean similarity with all weights randomised, its range over draws, and that of unrelated weights."""
    draws, unrelated_mean = curve.mean_by_draw(measure)[:, -1], curve.unrelated_mean(measure)
    if not np.isfinite(draws).any():
        return "undefined"
    unrelated = f"; unrelated weights {unrelated_mean:z.2f}" if np.isfinite(unrelated_mean) else ""
    return f"{curve.mean(measure)[-1]:z.2f} (draws {np.nanmin(draws):z.2f} to {np.nanmax(draws):z.2f}{unrelated})"
