"""Filters whose frequency, orientation and bands are known."""

import math

import pytest
import torch

from deconvnet.experiments.fig6_comparison.spectra import spectra


def grating(frequency, degrees, size=11, phase=0.3):
    """(3, size, size) grey stripes: `frequency` cycles per pixel, `degrees` anticlockwise from horizontal."""
    rows, columns = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    angle = math.radians(degrees)
    across = columns * math.sin(angle) + rows * math.cos(angle)  # rows go down
    return torch.cos(2 * math.pi * frequency * across + phase).expand(3, -1, -1)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135, 170])
@pytest.mark.parametrize("frequency", [0.2, 0.3, 0.4])
def test_a_pure_grating_has_its_frequency_and_orientation(frequency, degrees):
    found = spectra(grating(frequency, degrees)[None])
    assert found.frequency.item() == pytest.approx(frequency, abs=0.012)
    turned = (found.orientation.item() - degrees + 90) % 180 - 90
    assert abs(turned) < 3
    assert found.band_indices.item() == (1 if frequency == 0.2 else 2)
    assert found.energy.argmax().item() == found.band_indices.item()


def test_stripes_that_rise_to_the_right_have_45_degrees():
    rising = torch.zeros(1, 3, 8, 8)
    for row in range(8):
        for column in range(8):
            rising[..., row, column] = (-1) ** ((row + column) // 2)
    assert spectra(rising).orientation.item() == pytest.approx(45, abs=0.1)


def test_an_even_colour_is_low_and_has_no_orientation():
    found = spectra(torch.tensor([0.2, -0.1, 0.4]).view(1, 3, 1, 1).expand(1, 3, 11, 11))
    assert found.frequency.item() == 0
    assert found.orientation.isnan().all()
    assert found.band_indices.item() == 0
    assert found.energy_fractions[0] > 0.7


def test_colours_count_alike():
    grey = grating(0.3, 30)
    for colour in ((1.0, 0.0, 0.0), (1.0, -1.0, 0.2)):
        one = spectra((grey * torch.tensor(colour).view(3, 1, 1))[None])
        assert one.frequency == spectra(grey[None]).frequency
        torch.testing.assert_close(one.energy_fractions, spectra(grey[None]).energy_fractions)


def test_an_all_zero_filter_has_nothing():
    found = spectra(torch.zeros(1, 3, 7, 7))
    assert found.frequency.isnan().all()
    assert found.orientation.isnan().all()
    assert not found.energy.any()
    assert found.energy_fractions.isnan().all()
    assert found.band_indices.item() == -1


def test_energy_is_divided_among_the_bands():
    filters = torch.randn(400, 3, 9, 9)
    found = spectra(filters)
    torch.testing.assert_close(found.energy.sum(dim=1), filters.double().square().sum(dim=(1, 2, 3)))
    noise = [math.pi / 64, math.pi / 16 - math.pi / 64, 1 - math.pi / 16]
    assert found.energy_fractions.tolist() == pytest.approx(noise, abs=0.01)


def test_the_power_is_that_of_the_definition():
    """At the preferred frequency no other grating of the grid is answered to more strongly."""
    filters = torch.randn(1, 3, 5, 5).double()
    found = spectra(filters)

    def power(down, across):
        rows, columns = torch.meshgrid(torch.arange(5).double(), torch.arange(5).double(), indexing="ij")
        wave = torch.exp(-2j * math.pi * (down * rows + across * columns))
        return (filters[0] * wave).sum(dim=(1, 2)).abs().square().sum().item()

    angle = math.radians(found.orientation.item())
    frequency = found.frequency.item()
    best = power(frequency * math.cos(angle), frequency * math.sin(angle))
    assert best >= max(power(i / 128, j / 128) for i in range(-64, 64, 3) for j in range(0, 65, 3)) - 1e-9
