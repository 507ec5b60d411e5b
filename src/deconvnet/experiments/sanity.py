"""What a projection and an occlusion map depend on: results of the randomisation test, and of the deletion test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvnet.experiments.courses import Course, Deletion
from deconvnet.experiments.sanity_figure import sanity_figure
from deconvnet.images import Photos


@dataclass(frozen=True)
class Sanity:
    """What the pictures of one network depend on, over some photos."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """Whose strongest activation is projected."""
    photos: Photos
    rules: dict[str, Course]
    """Of projections, by name of the rule set, with the measures of `similarity.likeness`; pictures are (3, h, w)."""
    maps: Course | None
    """Of occlusion maps, with the measure "maps"; None for a trunk. Pictures are (rows, columns)."""
    deletion: Deletion | None
    """None for a trunk."""
    draws: int
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "images": {"digest": self.photos.digest, "paths": list(self.photos.paths)},
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
            found.append(f"{name}, with all weights up to {self.layer} random: likeness to the original {', '.join(ends)}.")
        if self.maps is not None:
            end = _end(self.maps, "maps")
            found.append(f"Occlusion maps, with all weights random: rank correlation with the original {end}.")
        if self.deletion is not None:
            by_map, at_random = self.deletion.areas
            found.append(
                "Covering squares in the order in which they matter by occlusion leaves the class a mean probability of "
                f"{by_map:.1%}, in random order {at_random:.1%}."
            )
        return found

    def figures(self) -> dict[str, Figure]:
        return {"sanity": self.figure()}

    def figure(self) -> Figure:
        """Curves of likeness, and the first photo's pictures as more and more is random."""
        about = (
            f"{len(self.photos)} photos, digest {self.photos.digest[:12]}; {self.draws} draws of weights, seed {self.seed}"
        )
        return sanity_figure(self.network, self.rules, self.maps, self.deletion, self.findings, about)


def _end(course: Course, measure: str) -> str:
    """When all is random; from which draw to which; and of unrelated weights."""
    draws, baseline = course.by_draw(measure)[:, -1], course.baseline(measure)
    if not np.isfinite(draws).any():
        return "undefined"
    unrelated = f"; unrelated weights {baseline:z.2f}" if np.isfinite(baseline) else ""
    return f"{course.mean(measure)[-1]:z.2f} (draws {np.nanmin(draws):z.2f} to {np.nanmax(draws):z.2f}{unrelated})"
