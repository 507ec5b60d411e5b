"""Fig. 6 and the numbers behind it: two networks beside each other."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import ImageSet
from deconvnet.experiments.fig6_comparison.filter_stats import DUPLICATE, FAINT
from deconvnet.experiments.fig6_comparison.findings import (
    DOMINATES,
    LEVEL,
    Finding,
    findings,
)
from deconvnet.experiments.fig6_comparison.network_stats import HARDLY, Side
from deconvnet.experiments.fig6_comparison.plots import block_figure, filter_figure, measure_figure
from deconvnet.experiments.fig6_comparison.spectra import BANDS


@dataclass(frozen=True)
class Comparison:
    """Two networks over the same photos."""

    sides: tuple[Side, Side]
    image_set: ImageSet
    read: int
    """How many of the photos could be read."""
    moved: int
    """How many of them were moved to measure aliasing."""
    seed: int

    @property
    def findings(self) -> list[Finding]:
        """What section 4.1 reports of AlexNet, and which of the two has it."""
        return findings(self.sides, self.read)

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "networks": [side.as_json() for side in self.sides],
            "findings": [finding.as_json() for finding in self.findings],
            "images": {
                "digest": self.image_set.digest,
                "found": len(self.image_set),
                "read": self.read,
                "moved": self.moved,
            },
            "thresholds": {
                "bands": list(BANDS),
                "near_duplicate": DUPLICATE,
                "faint": FAINT,
                "hardly_active": HARDLY,
                "dominates": DOMINATES,
                "level": LEVEL,
            },
            "seed": self.seed,
        }

    def figures(self) -> dict[str, Figure]:
        """Filter sheets, if both networks have them; the second layer's units; and the numbers of all units."""
        about = f"{self.read:,} photos, digest {self.image_set.digest[:12]}; seed {self.seed}"
        found = {
            "filters": filter_figure(self.sides, about),
            "blocks": block_figure(self.sides, about),
            "measures": measure_figure(self.sides, [finding.here for finding in self.findings], about),
        }
        return {name: figure for name, figure in found.items() if figure is not None}
