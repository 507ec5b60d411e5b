"""What a projection and an occlusion map depend on: results of the randomisation test, and of the deletion test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvnet.data import ImageSet
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.sanity_checks.curves import DeletionCurve, RandomisationCurve
from deconvnet.experiments.sanity_checks.plot import sanity_figure
from deconvnet.tracing import Box


@dataclass(frozen=True)
class Sanity:
    """What the pictures of one network depend on, over some photos."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """Whose strongest activation is projected."""
    image_set: ImageSet
    places: list[tuple[int, int]]
    """Row and column of that activation in each photo."""
    view: np.ndarray
    """(crop, crop, 3) uint8, the first photo as the network sees it."""
    box: Box
    """What the first photo's activation sees of it."""
    rules: dict[str, RandomisationCurve]
    """Of projections, by name of the rule set, with the measures of `similarity.likeness`; pictures are (3, h, w)."""
    classes: list[str] | None
    """What is followed in each photo, the network's first answer; None for a trunk, as all that follows."""
    occluder: Occluder | None
    maps: RandomisationCurve | None
    """Of occlusion maps, with the measure "maps"; pictures are (rows, columns)."""
    deletion: DeletionCurve | None
    draws: int
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "places": [list(place) for place in self.places],
            "classes": self.classes,
            "occluder": self.occluder and {"size": self.occluder.size, "stride": self.occluder.stride},
            "draws": self.draws,
            "seed": self.seed,
            "projections": {name: course.as_json() for name, course in self.rules.items()},
            "occlusion": self.maps and self.maps.as_json(),
            "deletion": self.deletion and self.deletion.as_json(),
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """What is left when all is random, beside what unrelated weights have in common anyway."""
        found = []
        for name, course in self.rules.items():
            ends = [f"{measure} {_end(course, measure)}" for measure in course.values]
            unknown, count = course.unknown("signed"), course.values["signed"].size
            left_out = f"; left out: {unknown} of {count} projections that were all zero" if unknown else ""
            found.append(
                f"{name}, with all weights up to {self.layer} random: likeness to the original {', '.join(ends)}{left_out}."
            )
        if self.maps is not None:
            end = _end(self.maps, "maps")
            places = self.maps.pictures[0].size
            found.append(
                f"Occlusion maps of {places} places, with all weights random: rank correlation with the original {end}."
            )
        if self.deletion is not None:
            areas = self.deletion.areas
            found.append(
                "Covering squares in the order in which they matter by occlusion leaves the network's first answer a mean "
                "probability of "
                f"{areas['by_map']:.1%}, from the centre on {areas['from_the_centre']:.1%}, in random order "
                f"{areas['at_random']:.1%}."
            )
        return found

    def figures(self) -> dict[str, Figure]:
        return {"sanity": self.figure()}

    def figure(self) -> Figure:
        """Curves of likeness, and the first photo's pictures as more and more is random."""
        about = (
            f"photos: {len(self.image_set)}, digest {self.image_set.digest[:12]}; {self.draws} draws of weights, seed {self.seed}"
            "; pictures: of the first photo and draw, each on its own scale"
        )
        if self.occluder is not None:
            about += f"; occluder of {self.occluder.size} pixels, steps of {self.occluder.stride}"
        first = self.view, self.box, f"{self.classes[0]}\n(prediction)" if self.classes else ""
        return sanity_figure(self.network, first, self.rules, self.maps, self.deletion, self.findings, about)


def _end(course: RandomisationCurve, measure: str) -> str:
    """When all is random; from which draw to which; and of unrelated weights."""
    draws, baseline = course.by_draw(measure)[:, -1], course.baseline(measure)
    if not np.isfinite(draws).any():
        return "undefined"
    unrelated = f"; unrelated weights {baseline:z.2f}" if np.isfinite(baseline) else ""
    return f"{course.mean(measure)[-1]:z.2f} (draws {np.nanmin(draws):z.2f} to {np.nanmax(draws):z.2f}{unrelated})"
