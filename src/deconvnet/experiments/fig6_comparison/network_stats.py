"""What is shown and measured of one of two networks that are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvnet.atlas.project_units import UnitProjections
from deconvnet.experiments.fig6_comparison.filter_stats import DUPLICATE
from deconvnet.experiments.fig6_comparison.spectra import BAND_NAMES, Spectra
from deconvnet.mining import Hit

#: A unit is hardly active if it is active in a smaller share of the photos.
HARDLY = 0.01


@dataclass(frozen=True)
class LayerMeasures:
    """One layer of one network. Where nothing can be said of a unit, its number is NaN."""

    active_share: Tensor
    """(units,) the share of photos in which the unit is active anywhere."""
    rms: Tensor | None
    """(units,) of the filters' weights; None where a layer is not made by one convolution or product, as what follows, or
    where batch normalisation or the like gives each unit another strength.
    """
    nearest: Tensor | None
    """(units,) the cosine between the filter and the one most like it, see `filter_measures.nearest`."""
    faint: Tensor | None
    """(units,) whether the filter is faint beside the layer's strongest, see `filter_measures.faint`; None as `rms`."""
    aliasing: Tensor | None
    """(units,) the aliased share of its answers, see `aliasing.aliasing`; measured in the first two convolutional layers."""
    aliasing_below: Tensor | None
    """(units,) the share of its answers that varies faster than the first layer's steps can hold."""

    @property
    def units(self) -> int:
        return len(self.active_share)

    @property
    def dead(self) -> Tensor:
        """(units,) never active."""
        return self.active_share == 0

    @property
    def hardly_active(self) -> Tensor:
        """(units,) active in less than a hundredth of the photos, dead ones included."""
        return self.active_share < HARDLY

    @property
    def duplicates(self) -> Tensor | None:
        """(units,) another filter of the layer is nearly the same."""
        return None if self.nearest is None else self.nearest >= DUPLICATE

    def as_json(self) -> dict[str, Any]:
        """Shares of units, and all units' numbers."""
        return {
            "units": self.units,
            "dead": _share(self.dead),
            "hardly_active": _share(self.hardly_active),
            "near_duplicates": _share(self.duplicates),
            "faint": _share(self.faint),
            "rms": _quantiles(self.rms),
            "aliasing": _quantiles(self.aliasing),
            "aliasing_below": _quantiles(self.aliasing_below),
            "of_each_unit": {
                name: None if values is None else finite(values)
                for name, values in {
                    "active_share": self.active_share,
                    "rms": self.rms,
                    "nearest_cosine": self.nearest,
                    "aliasing": self.aliasing,
                    "aliasing_below": self.aliasing_below,
                }.items()
            },
        }


@dataclass(frozen=True)
class Side:
    """What is shown of one of the two networks."""

    network: str
    """Full name; with the beginning of `sha256` where the other network has the same."""
    sha256: str
    """Of its weights."""
    layers: dict[str, LayerMeasures]
    filters: Tensor | None
    """(units, 3, rows, columns) of the first layer, RGB; None if that is not a plain convolution, as `spectra`."""
    spectra: Spectra | None
    second: str
    """The layer of `blocks`: the second convolutional one, or the only one."""
    blocks: list[UnitProjections]
    """Projections and patches of random units of that layer, of those that are active as far as there are enough."""
    hits: list[list[Hit]]
    """The activations that are shown of each of these units, strongest first."""

    @property
    def first(self) -> str:
        """The network's first layer."""
        return next(iter(self.layers))

    def as_json(self) -> dict[str, Any]:
        spectra = self.spectra
        return {
            "network": self.network,
            "sha256": self.sha256,
            "layers": {name: layer.as_json() for name, layer in self.layers.items()},
            "first_layer": spectra
            and {
                "prefer": {name: int((spectra.bands == band).sum()) for band, name in enumerate(BAND_NAMES)},
                "energy": dict(zip(BAND_NAMES, finite(spectra.shares), strict=True)),
                "of_each_unit": {
                    "frequency": finite(spectra.frequency),
                    "orientation": finite(spectra.orientation),
                    "energy": [finite(row) for row in spectra.energy],
                },
            },
            "shown": {
                "layer": self.second,
                "units": {
                    str(pieces.unit): [
                        {"value": hit.value, "path": hit.path, "row": hit.row, "column": hit.column, "box": list(hit.box)}
                        for hit in hits
                    ]
                    for pieces, hits in zip(self.blocks, self.hits, strict=True)
                },
            },
        }


Sides = tuple[Side, Side]


def finite(values: Tensor | Sequence[float]) -> list[float | None]:
    """Numbers as JSON has them: None for NaN, six digits."""
    return [None if value != value else float(f"{value:.6g}") for value in torch.as_tensor(values).tolist()]


def _share(units: Tensor | None) -> float | None:
    return None if units is None else float(units.double().mean())


def _quantiles(values: Tensor | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    at = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    names = ("lowest", "lower_quartile", "median", "upper_quartile", "highest")
    return dict(zip(names, finite(values.double().nanquantile(at)), strict=True))
