"""The result of Fig. 6: two networks compared over the same images."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import InputSet
from deconvnet.experiments.fig6_comparison.filter_stats import DUPLICATE_COSINE, FAINT_FRACTION
from deconvnet.experiments.fig6_comparison.findings import DOMINANCE_RATIO, SIGNIFICANCE_LEVEL, Finding, findings
from deconvnet.experiments.fig6_comparison.network_stats import HARDLY_ACTIVE_FRACTION, NetworkStatsPair
from deconvnet.experiments.fig6_comparison.plot import filter_figure, stats_figure, unit_figure
from deconvnet.experiments.fig6_comparison.spectra import BAND_EDGES


@dataclass(frozen=True)
class Comparison:
    """Two networks compared over the same images."""

    networks: NetworkStatsPair
    image_set: InputSet
    read_count: int
    """Number of images that the first network could read."""
    translated_count: int
    """Number of images that were translated to measure aliasing."""
    seed: int
    shown_as: str = ""
    """How views are shown, in words, unless they are of photos."""

    @property
    def findings(self) -> list[Finding]:
        """What section 4.1 reports of AlexNet, and in which of the two networks it is seen."""
        return findings(self.networks, self.read_count, self.image_set.noun)

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "networks": [stats.as_json() for stats in self.networks],
            "findings": [finding.as_json() for finding in self.findings],
            "images": {
                "digest": self.image_set.digest,
                "found": len(self.image_set),
                "read": self.read_count,
                "moved": self.translated_count,
            },
            "thresholds": {
                "bands": list(BAND_EDGES),
                "near_duplicate": DUPLICATE_COSINE,
                "faint": FAINT_FRACTION,
                "hardly_active": HARDLY_ACTIVE_FRACTION,
                "dominates": DOMINANCE_RATIO,
                "level": SIGNIFICANCE_LEVEL,
            },
            "seed": self.seed,
        }

    def figures(self) -> dict[str, Figure]:
        """Filter sheets, if both networks have them; units of the second layers; measurements of all units."""
        source = f"{self.read_count:,} {self.image_set.noun}s, digest {self.image_set.digest[:12]}; seed {self.seed}"
        if self.shown_as:
            source += f"; {self.shown_as}"
        figures = {
            "filters": filter_figure(self.networks, source),
            "blocks": unit_figure(self.networks, source),
            "measures": stats_figure(self.networks, [finding.measured for finding in self.findings], source),
        }
        return {name: figure for name, figure in figures.items() if figure is not None}
