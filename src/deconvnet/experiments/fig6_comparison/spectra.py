"""Which stripes the filters of the first layer answer to: their frequency and orientation (section 4.1, in numbers)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Between low, middle and high frequencies, in cycles per pixel: periods of 8 and of 4 pixels, an octave apart.
BANDS = (1 / 8, 1 / 4)
BAND_NAMES = ("low", "middle", "high")

#: The spectrum is sampled at multiples of 1/_GRID cycles per pixel.
_GRID = 128


@dataclass(frozen=True)
class Spectra:
    """The power spectra of some filters, summed up; NaN where a filter is all zero."""

    frequency: Tensor
    """(units,) cycles per pixel, 0 to √½: of the grating that the filter answers to most strongly. 0 is an even colour."""
    orientation: Tensor
    """(units,) degrees, 0 to 180: of the stripes of that grating; 0 is horizontal, 45 rises to the right. NaN if even."""
    energy: Tensor
    """(units, 3) the filter's energy (sum of its squared weights) at low, middle and high frequencies."""

    @cached_property
    def bands(self) -> Tensor:
        """(units,) the band of each filter's frequency, 0, 1 or 2; -1 for an all-zero filter."""
        return torch.where(self.frequency.isnan(), -1, _band(self.frequency))

    @property
    def shares(self) -> Tensor:
        """(3,) of the energy of all filters together; NaN if there is none."""
        return self.energy.sum(dim=0) / self.energy.sum()


def spectra(filters: Tensor) -> Spectra:
    """The spectra of filters w (units, channels, rows, columns), all channels together:

        P(f) = Σ_c | Σ_x w_c(x) exp(−2πi f·x) |²

    P(f) is the power of the filter's answer to a grating of frequency f whose colours, and where the stripes of each colour
    stand, suit it best. So its maximum is the filter's preferred grating, as an electrode would find it. By Parseval's
    theorem P sums up to the filter's energy, which the bands divide among them; white noise has π/64 ≈ 5 %, 15 % and 80 %
    in `BANDS`. A filter of n pixels cannot tell frequencies apart that are nearer than about 1/n.
    """
    power = torch.fft.fft2(filters.cpu().double(), s=(_GRID, _GRID)).abs().square().sum(dim=1).flatten(1)
    axis = torch.fft.fftfreq(_GRID, dtype=torch.float64)
    down, across = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
    radius = torch.hypot(down, across)
    total = power.sum(dim=1)
    best = power.argmax(dim=1)
    frequency = radius[best].where(total > 0, torch.nan)
    orientation = torch.rad2deg(torch.atan2(across[best], down[best])).remainder(180).where(frequency > 0, torch.nan)
    energy = torch.stack([power[:, _band(radius) == band].sum(dim=1) for band in range(len(BAND_NAMES))], dim=1) / _GRID**2
    return Spectra(frequency, orientation, energy)


def _band(frequency: Tensor) -> Tensor:
    return torch.bucketize(frequency, torch.tensor(BANDS, dtype=torch.float64))
