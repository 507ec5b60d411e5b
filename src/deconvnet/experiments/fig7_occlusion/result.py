"""The result of Fig. 7: some images under a sliding occluder."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import InputSet
from deconvnet.experiments.fig7_occlusion.image_result import OccludedImage
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.fig7_occlusion.plot import occlusion_figure
from deconvnet.formatting import printable


@dataclass(frozen=True)
class Occlusion:
    """Fig. 7 for one network, one occluder and some images."""

    network: str
    """Full name."""
    sha256: str
    layer: str
    """The last convolutional layer."""
    occluder: Occluder
    starts: range
    """Rows of the occluder's upper edge at all positions, in pixels of the view."""
    column_starts: range
    """Columns of its left edge."""
    view_size: tuple[int, int]
    """Height and width of the view, in pixels."""
    image_set: InputSet
    occluded_images: list[OccludedImage]
    """In the order of `image_set`."""
    num_searched: int
    """Number of images among which other strong activations of the units were searched."""
    shown_as: str = ""
    """How views are shown, in words, unless they are of photos."""

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
            **({} if self.column_starts == self.starts else {"column_starts": list(self.column_starts)}),
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "others_among": self.num_searched,
            "photos": [image.as_json() for image in self.occluded_images],
            "findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """For each image, a sentence on the occluder's effect at the worst position."""
        return [f"{printable(image.path)}: {self.layer}: {image.finding}." for image in self.occluded_images]

    def figures(self) -> dict[str, Figure]:
        return {"occlusion": self.figure()}

    def figure(self) -> Figure:
        """Fig. 7: a row for each image, with the paper's five columns."""
        occluder = self.occluder
        noun = self.image_set.noun
        fill = "the mean colour" if noun == "photo" else "filled with zeros"
        colour = fill if occluder.colour is None else f"colour {occluder.colour}"
        footnote = (
            f"occluder: {occluder.shape} of {occluder.size} pixels, steps of {occluder.stride}, {colour}; others sought "
            f"among {self.num_searched:,} {noun}s; {noun}s {self.image_set.digest[:12]}"
        )
        if self.shown_as:
            footnote += f"; {self.shown_as}"
        return occlusion_figure(
            self.network,
            self.layer,
            self.occluded_images,
            occluder,
            (self.starts, self.column_starts),
            self.view_size,
            footnote,
        )
