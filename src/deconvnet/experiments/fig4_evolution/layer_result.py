"""The result of Fig. 4 for one layer: its shown units at each snapshot, and how similar all units are to the last one."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deconvnet.experiments.result import hit_as_json
from deconvnet.formatting import json_numbers
from deconvnet.mining import Hit


@dataclass(frozen=True)
class LayerEvolution:
    """One layer at each snapshot, compared with itself at the last one."""

    units: list[int]
    """The units that are shown, drawn at random: active ones at the last snapshot if there are enough."""
    hits: list[list[Hit | None]]
    """(units, epochs) their strongest activations; None where no image activates the unit."""
    projections: Tensor
    """(units, epochs, 3, h, w) of the hits, cropped to the receptive field; zeros where there is none."""
    similarities: list[float]
    """(epochs,) the median, over all units of the layer, of their similarity to the last snapshot; NaN if all are constant
    there.
    """
    same_image_fractions: list[float]
    """(epochs,) the fraction of the units active at the last snapshot whose strongest image is already the same; NaN if none
    is active.
    """

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the projections; null for NaN."""
        return {
            "similarities": json_numbers(self.similarities),
            "same_photo": json_numbers(self.same_image_fractions),
            "units": {
                str(unit): [hit and hit_as_json(hit) for hit in hits]
                for unit, hits in zip(self.units, self.hits, strict=True)
            },
        }
