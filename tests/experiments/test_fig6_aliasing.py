"""Strides that must alias, and strides that cannot."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet.data import Preprocessing, find_images
from deconvnet.data.transforms import per_channel
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.fig6_comparison.aliasing import aliased_fractions
from deconvnet.models import Network
from oracles.plain_aliasing import aliased_energy

CROP = 64


def network(weights, stride, bias=0.0, padding=0):
    """One convolution with these filters (units, 3, rows, columns), rectified."""
    conv = nn.Conv2d(3, len(weights), tuple(weights.shape[2:]), stride, padding)
    with torch.no_grad():
        conv.weight[:] = weights
        conv.bias[:] = bias
    preprocessing = Preprocessing(CROP, CROP, 1, per_channel((0.5,) * 3), per_channel((1.0,) * 3))
    return Network(nn.Sequential(conv, nn.ReLU()).eval(), preprocessing, layer_names=["conv1"], classifies=False)


def write_waves(folder, period):
    """A photo of vertical stripes, larger than is needed, of a whole number of pixels each."""
    across = 0.5 + 0.45 * np.cos(2 * math.pi * np.arange(CROP + 8) / period)
    grey = np.rint(255 * np.broadcast_to(across, (CROP + 8, CROP + 8))).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    Image.fromarray(grey).convert("RGB").save(folder / f"{period}.png")
    return find_images(folder)


def reader(kind):
    """A filter of one pixel, or of the mean of some."""
    return torch.full((1, 3, 1, 1), 1 / 3) if kind == "pixel" else torch.full((1, 3, 4, 4), 1 / 48)


@pytest.mark.parametrize(
    ("stride", "period", "must"), [(4, 4, True), (4, 6, True), (2, 3, True), (2, 16, False), (4, 16, False)]
)
def test_stripes_finer_than_a_stride_can_hold_are_aliased(tmp_path, stride, period, must):
    photos = write_waves(tmp_path / "waves", period)
    # With a bias that keeps all answers above 0, so that the ReLU makes no overtones.
    share = aliased_fractions(network(reader("pixel"), stride, bias=1.0), photos, [0], ["conv1"])["conv1"].above_nyquist
    # Resizing to 67 or 65 pixels changes the period by a tenth, which leaves every case on its side.
    assert (share.item() > 0.97) if must else (share.item() < 0.03)


def test_stride_one_cannot_alias(photo_folder):
    photos = find_images(photo_folder)
    fractions = aliased_fractions(network(torch.randn(4, 3, 3, 3), 1), photos, [0, 1, 2], ["conv1"])["conv1"]
    assert fractions.above_nyquist.tolist() == fractions.above_first_nyquist.tolist() == [0, 0, 0, 0]


def write_noise(folder):
    noise = np.random.default_rng(0).integers(0, 256, (CROP + 3, CROP + 3, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return find_images(folder)


def test_without_structure_it_is_what_does_not_fit_and_averaging_makes_it_less(tmp_path):
    photos = write_noise(tmp_path)
    fine, smooth = (
        aliased_fractions(network(reader(kind), 4, bias=1.0), photos, [0], ["conv1"])["conv1"].above_nyquist.item()
        for kind in ("pixel", "mean")
    )
    assert fine == pytest.approx(0.75, abs=0.03)
    assert smooth < 0.4


def test_it_is_the_definition(photo_folder):
    """Answers at every pixel by a stride of one, and the plain sum over lines, rows and columns."""
    photos, weights = find_images(photo_folder), torch.randn(2, 3, 5, 5)
    fractions = aliased_fractions(network(weights, 3, padding=2), photos, [0, 4], ["conv1"])["conv1"].above_nyquist
    dense = network(weights, 1)
    preprocessing = Preprocessing(CROP + 2, CROP + 2, 1, per_channel((0.5,) * 3), per_channel((1.0,) * 3))
    x = torch.stack([preprocessing(photos.read(index)) for index in (0, 4)])
    maps = dense.module(x).detach().double()  # (2, 2, 62, 62), from where a field begins at pixel 0
    start = 1  # with padding 2 the first inner field begins at pixel 1; there are 20 of them, and 60 pixels from there
    for unit in range(2):
        aliased = total = 0.0
        for image in range(2):
            for place in range(start, start + 58, 3):
                for line in (maps[image, unit, place, start : start + 60], maps[image, unit, start : start + 60, place]):
                    above, whole = aliased_energy(line.tolist(), 3)
                    aliased, total = aliased + above, total + whole
        assert fractions[unit].item() == pytest.approx(aliased / total, rel=1e-5)


def test_above_a_coarse_layer_what_it_could_not_hold_is_seen(tmp_path):
    """Stripes of 3 pixels under steps of 4 come out as false ones; a layer above answers to those while the photo moves."""
    preprocessing = Preprocessing(CROP, CROP, 1, per_channel((0.5,) * 3), per_channel((1.0,) * 3))

    def two(stride):
        first, second = nn.Conv2d(3, 1, 1, stride), nn.Conv2d(1, 1, 3, 2)
        with torch.no_grad():
            first.weight.fill_(1 / 3), first.bias.fill_(1.0)
            second.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).expand(1, 1, 3, 3)), second.bias.fill_(9.0)
        module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU()).eval()
        return Network(module, preprocessing, layer_names=["conv1", "conv2"], classifies=False)

    for period, stride, is_aliased in ((6, 4, True), (6, 2, False), (24, 4, False)):
        waves = write_waves(tmp_path / f"{period}-{stride}", period)
        fractions = aliased_fractions(two(stride), waves, [0], ["conv1", "conv2"])
        assert fractions["conv1"].above_first_nyquist == fractions["conv1"].above_nyquist
        in_conv2 = fractions["conv2"].above_first_nyquist.item()
        assert (in_conv2 > 0.9) if is_aliased else (in_conv2 < 0.05)
    assert fractions["conv2"].above_nyquist.item() < 0.05
    fractions = aliased_fractions(two(2), write_waves(tmp_path / "conv2", 6), [0], ["conv1", "conv2"])
    assert fractions["conv2"].above_nyquist.item() > 0.9  # conv2's stride is 4 pixels, by itself


def test_a_dead_unit_and_one_that_answers_the_same_everywhere_have_none(photo_folder):
    weights, bias = torch.randn(3, 3, 5, 5), torch.tensor([0.0, -1.0, 5.0])
    weights[1:] = 0
    fractions = aliased_fractions(network(weights, 2, bias), find_images(photo_folder), [0], ["conv1"])
    assert fractions["conv1"].above_nyquist.isnan().tolist() == [False, True, True]


def test_a_field_as_large_as_the_input_has_no_places_to_compare(photo_folder):
    fractions = aliased_fractions(network(torch.randn(2, 3, CROP, CROP), 2), find_images(photo_folder), [0], ["conv1"])
    assert fractions["conv1"].above_nyquist.isnan().all()


def test_photos_that_cannot_be_read_are_passed_over(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    photos = find_images(tmp_path)
    with pytest.raises(DeconvnetError, match="None of 1 photos"):
        aliased_fractions(network(reader("pixel"), 2), photos, [0], ["conv1"])
