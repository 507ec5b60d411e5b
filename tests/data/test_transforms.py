"""The parts of a square that a network is shown, against plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.data import torchvision_preprocessing
from deconvnet.data.transforms import central_crop, central_square, random_crops, ten_views
from deconvnet.training.stateless_rng import crop_numbers

SQUARES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("crop", [11, 12, 16])
def test_ten_views_are_corners_centre_and_their_mirror_images(crop):
    views = np.stack(list(ten_views(torch.from_numpy(SQUARES), crop)), axis=1)
    assert views.shape == (3, 10, crop, crop, 3)
    far = 16 - crop
    for number, (top, left) in enumerate([(0, 0), (0, far), (far, 0), (far, far), (round(far / 2), round(far / 2))]):
        for image in range(3):
            for row in range(crop):
                for column in range(crop):
                    pixel = SQUARES[image, top + row, left + column]
                    assert (views[image, number, row, column] == pixel).all()
                    assert (views[image, number + 5, row, crop - 1 - column] == pixel).all()
    assert (central_crop(SQUARES, crop) == views[:, 4]).all()


def test_random_crops_reach_every_place_alike_and_mirror_half():
    row, column = np.indices((16, 16), dtype=np.uint8)
    coordinates = np.stack([row, column, row], axis=2)  # each pixel says where it is
    count = 36_000
    crops = random_crops(np.broadcast_to(coordinates, (count, 16, 16, 3)), 11, crop_numbers(5, 7, np.arange(count)))
    mirrored = crops[:, 0, 0, 1] > crops[:, 0, -1, 1]
    tops, lefts = crops[:, 0, 0, 0], np.where(mirrored, crops[:, 0, -1, 1], crops[:, 0, 0, 1])
    outcomes, counts = np.unique(np.stack([tops, lefts, mirrored], axis=1), axis=0, return_counts=True)
    assert len(outcomes) == 6 * 6 * 2  # all, and none outside
    assert np.abs(counts - 500).max() < 5 * 500**0.5
    for crop, top, left, mirror in zip(crops[:50], tops, lefts, mirrored, strict=False):
        view = coordinates[top : top + 11, left : left + 11]
        assert (crop == (view[:, ::-1] if mirror else view)).all()


@pytest.mark.parametrize("size", [(300, 400), (401, 299), (256, 256), (90, 61), (256, 700)])
def test_the_square_is_the_view_of_256(size):
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    square = central_square(Image.fromarray(noise))
    assert square.shape == (256, 256, 3)
    assert square.dtype == np.uint8
    assert (square == np.asarray(torchvision_preprocessing(256, 256).view(Image.fromarray(noise)))).all()
