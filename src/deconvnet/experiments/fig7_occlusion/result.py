"""Fig. 7: what a classifier makes of some photos while a patch is moved over them."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import ImageSet
from deconvnet.experiments.fig7_occlusion.occluded_image import Occluded
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.plot import occlusion_figure
from deconvnet.text import printable


@dataclass(frozen=True)
class Occlusion:
    """Some photos under one occluder."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """The last convolutional one."""
    occluder: Occluder
    starts: range
    """Upper edges of the positions' rows, and left edges of their columns, in pixels of the view."""
    image_set: ImageSet
    rows: list[Occluded]
    among: int
    """Photos among which the others were sought."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        occluder = self.occluder
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layer": self.layer,
            "occluder": {
                "size": occluder.size,
                "stride": occluder.stride,
                "shape": occluder.shape,
                "colour": "mean" if occluder.colour is None else list(occluder.colour),
            },
            "starts": list(self.starts),
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "others_among": self.among,
            "photos": [row.as_json() for row in self.rows],
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """Of each photo, what the occluder does at worst."""
        return [f"{printable(row.path)}: {self.layer}: {row.finding}." for row in self.rows]

    def figures(self) -> dict[str, Figure]:
        return {"occlusion": self.figure()}

    def figure(self) -> Figure:
        """A row for each photo; the paper's five columns."""
        occluder = self.occluder
        colour = "the mean colour" if occluder.colour is None else f"colour {occluder.colour}"
        about = (
            f"occluder: {occluder.shape} of {occluder.size} pixels, steps of {occluder.stride}, {colour}; others sought "
            f"among {self.among:,} photos; photos {self.image_set.digest[:12]}"
        )
        return occlusion_figure(self.network, self.layer, self.rows, occluder, self.starts, about)
