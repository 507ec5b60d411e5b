"""Pictures of any number of channels, compared pixel by pixel with a plain loop."""

import math

import numpy as np
import pytest
import torch

from deconvnet.data.channel_pictures import channel_corners, channels_as_rgb, fit_tiles, rgb_size, scale_channels


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("size", [(5, 7), (70, 9)])
def test_channels_stand_in_reading_order(channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, channels), dtype=np.uint8)
    made = channels_as_rgb(pixels)
    assert made.shape == (2, *rgb_size(size, channels), 3)
    if channels == 3:
        assert (made == pixels).all()
        return
    columns, gap = math.ceil(math.sqrt(channels)), 1 if max(size) < 64 else 2
    covered = np.zeros(made.shape[1:3], dtype=bool)
    for channel in range(channels):
        top, left = channel // columns * (size[0] + gap), channel % columns * (size[1] + gap)
        assert channel_corners(size, channels)[channel] == (top, left)
        for colour in range(3):
            tile = made[:, top : top + size[0], left : left + size[1], colour]
            assert (tile == pixels[..., channel]).all()
        covered[top : top + size[0], left : left + size[1]] = True
    assert (made[:, ~covered] == 190).all()


def test_each_channel_of_each_input_goes_from_its_lowest_to_its_highest_value():
    inputs = torch.randn(2, 4, 3, 5) * torch.tensor([1e-6, 1.0, 1e6, 0.0]).view(4, 1, 1)
    made = scale_channels(inputs)
    assert made.shape == (2, 3, 5, 4)
    for image in range(2):
        for channel in range(4):
            values, found = inputs[image, channel].double(), made[image, :, :, channel]
            low, high = values.min(), values.max()
            expected = 255 * (values - low) / (high - low) if high > low else torch.full_like(values, 128)
            assert np.abs(found - expected.numpy()).max() <= 0.5


def test_a_small_tile_is_enlarged_by_a_whole_factor_in_the_middle():
    tiles = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    made = fit_tiles(tiles, (8, 9))
    assert (made[:, 1:7, :8] == tiles.repeat(2, axis=1).repeat(2, axis=2)).all()
    assert (made[:, 0] == 128).all()
    assert (made[:, 7:] == 128).all()
    assert (made[:, :, 8] == 128).all()
    assert fit_tiles(tiles, (3, 4)) is tiles
