"""Preferred frequency and orientation of first-layer filters (section 4.1, in numbers)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Limits between low, middle and high frequencies, in cycles per pixel: periods of 8 and of 4 pixels, an octave apart.
BAND_EDGES = (1 / 8, 1 / 4)
BAND_NAMES = ("low", "middle", "high")

#: The spectrum is sampled at multiples of 1/_GRID cycles per pixel.
_GRID = 128


@dataclass(frozen=True)
class Spectra:
    """Features of the power spectra of some filters; NaN where a filter is all zero."""

    frequency: Tensor
    """(units,) cycles per pixel, 0 to √½: of the filter's preferred grating. 0 is a uniform colour."""
    orientation: Tensor
    """(units,) degrees, 0 to 180: of the stripes of that grating; 0 is horizontal, 45 rises to the right. NaN if uniform."""
    energy: Tensor
    """(units, 3) the filter's energy (sum of its squared weights) at low, middle and high frequencies."""

    @cached_property
    def band_indices(self) -> Tensor:
        """(units,) the band of each filter's frequency, 0, 1 or 2; -1 for an all-zero filter."""
        return torch.where(self.frequency.isnan(), -1, _band_index(self.frequency))

    @property
    def energy_fractions(self) -> Tensor:
        """(3,) each band's fraction of the energy of all filters together; NaN if there is none."""
        return self.energy.sum(dim=0) / self.energy.sum()


def spectra(filters: Tensor) -> Spectra:
    """The power spectra of filters w (units, channels, rows, columns), summed over channels:

        P(f) = Σ_c | Σ_x w_c(x) exp(−2πi f·x) |²

    P(f) is the power of the filter's response to a grating of frequency f with the best colours and the best phase for each
    of them. So its maximum is the filter's preferred grating, as an electrode would find it. By Parseval's theorem P sums to
    the filter's energy, which is divided among the bands; white noise has π/64 ≈ 5 %, 15 % and 80 % in them. A filter of n
    pixels cannot separate frequencies closer than about 1/n.
    """
    power = torch.fft.fft2(filters.cpu().double(), s=(_GRID, _GRID)).abs().square().sum(dim=1).flatten(1)
    axis = torch.fft.fftfreq(_GRID, dtype=torch.float64)
    vertical, horizontal = (frequencies.flatten() for frequencies in torch.meshgrid(axis, axis, indexing="ij"))
    radius = torch.hypot(vertical, horizontal)
    total = power.sum(dim=1)
    preferred = power.argmax(dim=1)
    frequency = radius[preferred].where(total > 0, torch.nan)
    angle = torch.atan2(horizontal[preferred], vertical[preferred])
    orientation = torch.rad2deg(angle).remainder(180).where(frequency > 0, torch.nan)
    bands = [power[:, _band_index(radius) == band].sum(dim=1) for band in range(len(BAND_NAMES))]
    energy = torch.stack(bands, dim=1) / _GRID**2
    return Spectra(frequency, orientation, energy)


def _band_index(frequency: Tensor) -> Tensor:
    """0, 1 or 2: low, middle or high."""
    return torch.bucketize(frequency, torch.tensor(BAND_EDGES, dtype=torch.float64))
