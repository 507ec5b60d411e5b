"""The measurements and the shown units of one of two networks that are compared."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvnet.atlas.project_units import UnitProjections
from deconvnet.experiments.fig6_comparison.filter_stats import DUPLICATE_COSINE
from deconvnet.experiments.fig6_comparison.spectra import BAND_NAMES, Spectra
from deconvnet.experiments.result import hit_as_json
from deconvnet.formatting import json_numbers
from deconvnet.mining import Hit

#: A unit is hardly active if it is active in a smaller fraction of the images.
HARDLY_ACTIVE_FRACTION = 0.01

#: Significant digits of numbers in the JSON file.
_DIGITS = 6


@dataclass(frozen=True)
class LayerStats:
    """Measurements of one layer's units. A value that is undefined for a unit is NaN."""

    active_fraction: Tensor
    """(units,) the fraction of images in which the unit is active anywhere."""
    rms: Tensor | None
    """(units,) of the filters' weights, see `filter_stats.filter_rms`. None if the layer is not made by one convolution or
    product, as the next two, or if batch normalisation or the like rescales each unit.
    """
    nearest_cosine: Tensor | None
    """(units,) the cosine between the filter and the one most similar to it, see `filter_stats.nearest_cosine`."""
    is_faint: Tensor | None
    """(units,) whether the filter is faint next to the layer's strongest, see `filter_stats.is_faint`; None as `rms`."""
    aliasing: Tensor | None
    """(units,) the fraction of response energy above the Nyquist limit of the layer's stride, see
    `aliasing.aliased_fractions`; None but for the first two convolutional layers.
    """
    first_stride_aliasing: Tensor | None
    """(units,) the same for the first layer's stride."""

    @property
    def units(self) -> int:
        return len(self.active_fraction)

    @property
    def dead(self) -> Tensor:
        """(units,) whether the unit is never active."""
        return self.active_fraction == 0

    @property
    def hardly_active(self) -> Tensor:
        """(units,) whether it is active in less than a hundredth of the images, or never."""
        return self.active_fraction < HARDLY_ACTIVE_FRACTION

    @property
    def duplicates(self) -> Tensor | None:
        """(units,) whether another filter of the layer is nearly the same."""
        return None if self.nearest_cosine is None else self.nearest_cosine >= DUPLICATE_COSINE

    def as_json(self) -> dict[str, Any]:
        """Fractions of units, quantiles, and the numbers of all units."""
        return {
            "units": self.units,
            "dead": _fraction(self.dead),
            "hardly_active": _fraction(self.hardly_active),
            "near_duplicates": _fraction(self.duplicates),
            "faint": _fraction(self.is_faint),
            "rms": _quantiles(self.rms),
            "aliasing": _quantiles(self.aliasing),
            "aliasing_below": _quantiles(self.first_stride_aliasing),
            "of_each_unit": {
                name: None if values is None else json_numbers(values, _DIGITS)
                for name, values in {
                    "active_share": self.active_fraction,
                    "rms": self.rms,
                    "nearest_cosine": self.nearest_cosine,
                    "aliasing": self.aliasing,
                    "aliasing_below": self.first_stride_aliasing,
                }.items()
            },
        }


@dataclass(frozen=True)
class NetworkStats:
    """The measurements and the shown units of one network."""

    network: str
    """Full name; with the beginning of `sha256` if both networks have the same."""
    sha256: str
    """Of its weights."""
    layers: dict[str, LayerStats]
    filters: Tensor | None
    """(units, 3, rows, columns) of the first layer, RGB; None if that is not a plain convolution, as `spectra`."""
    spectra: Spectra | None
    shown_layer: str
    """The layer of `shown_units`: the second convolutional one, or the only one."""
    shown_units: list[UnitProjections]
    """Projections and patches of random units of that layer; active ones if there are enough."""
    shown_hits: list[list[Hit]]
    """The hits of each of these units, strongest first."""

    @property
    def first_layer(self) -> str:
        """Name of the network's first layer."""
        return next(iter(self.layers))

    def as_json(self) -> dict[str, Any]:
        spectra = self.spectra
        return {
            "network": self.network,
            "sha256": self.sha256,
            "layers": {name: layer.as_json() for name, layer in self.layers.items()},
            "first_layer": spectra
            and {
                "prefer": {name: int((spectra.band_indices == band).sum()) for band, name in enumerate(BAND_NAMES)},
                "energy": dict(zip(BAND_NAMES, json_numbers(spectra.energy_fractions, _DIGITS), strict=True)),
                "of_each_unit": {
                    "frequency": json_numbers(spectra.frequency, _DIGITS),
                    "orientation": json_numbers(spectra.orientation, _DIGITS),
                    "energy": json_numbers(spectra.energy, _DIGITS),
                },
            },
            "shown": {
                "layer": self.shown_layer,
                "units": {
                    str(projections.unit): [hit_as_json(hit) for hit in hits]
                    for projections, hits in zip(self.shown_units, self.shown_hits, strict=True)
                },
            },
        }


NetworkStatsPair = tuple[NetworkStats, NetworkStats]


def _fraction(mask: Tensor | None) -> float | None:
    return None if mask is None else float(mask.double().mean())


def _quantiles(values: Tensor | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    names = ("lowest", "lower_quartile", "median", "upper_quartile", "highest")
    return dict(zip(names, json_numbers(values.double().nanquantile(levels), _DIGITS), strict=True))
