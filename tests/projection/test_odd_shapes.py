"""Projections in inputs of any number of channels whose height and width differ, against the oracle."""

import numpy as np
import pytest
import torch

from deconvnet import UsageError, picture, project
from deconvnet.projection import project_batch
from helpers.odd_shapes import SHAPES, Blobs, odd_network
from oracles.hand_placed_rules import Deconvnet

pytestmark = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "×".join(map(str, shape)))


@pytest.fixture
def network(shape):
    network = odd_network(shape)
    network.module.double()
    return network


@pytest.mark.parametrize("allow_cropping", [True, False])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc3"])
def test_projections_are_the_oracles(network, shape, layer, allow_cropping):
    x = Blobs(shape).inputs[:2].double()
    index, (rows, columns) = list(network.layers).index(layer), network.layer(layer).map_size
    for image in range(2):
        oracle = Deconvnet(network.module, x[image][None])
        for unit, row, column in ((0, 0, 0), (1, rows - 1, columns - 1), (3, rows // 2, columns // 3), (4, rows - 1, 0)):
            expected = oracle.project(index, unit, row, column)
            position = torch.tensor([[row, column]])
            got = project_batch(
                network, x[image][None], layer, torch.tensor([unit]), position, allow_cropping=allow_cropping
            )
            assert got.pixels.shape == (1, *shape)
            assert torch.allclose(got.pixels[0], expected, rtol=0, atol=1e-12 + 1e-10 * float(expected.abs().max()))
            box = network.layer(layer).field.clipped_box(row, column)
            outside = expected.clone()
            outside[:, box.top : box.bottom, box.left : box.right] = 0
            assert not outside.any()


def test_project_takes_and_gives_inputs_of_that_shape(network, shape):
    x = Blobs(shape).inputs[:3].double()
    projection = project(network, x, layer="conv2", unit=2)
    assert projection.shape == (3, *shape)
    for box in projection.boxes:
        assert 0 <= box.left < box.right <= shape[2]
        assert 0 <= box.top < box.bottom <= shape[1]
    channels, height, width = shape
    with pytest.raises(UsageError, match=rf"\(N, {channels}, {height}, {width}\), not \(3, {channels}, {width}, {height}\)"):
        project(network, x.transpose(2, 3), layer="conv2", unit=2)


def test_a_picture_has_one_channel_in_grey_three_in_colour_and_four_in_a_grid(network, shape):
    channels, height, width = shape
    projection = torch.zeros(shape)
    projection[-1, 3, 5], projection[0, 2, 1] = 2.0, -1.0
    pixels = np.asarray(picture(projection))
    if channels == 3:
        assert pixels.shape == (height, width, 3)
        assert pixels[3, 5].tolist() == [128, 128, 255]
        assert pixels[2, 1].tolist()[1:] == [128, 128]
        return
    assert (pixels == pixels[:, :, :1]).all()
    top, left = (0, 0) if channels == 1 else (height + 1, width + 1)  # the last of two by two, with a line between
    assert pixels.shape[:2] == (height + top, width + left)
    assert pixels[top + 3, left + 5, 0] == 255
    assert pixels[2, 1, 0] < 128
    assert pixels[top, left, 0] == 128
