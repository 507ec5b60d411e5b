"""Projections as pictures: the scale, mid-grey, tiles."""

import numpy as np
import pytest
import torch

from deconvnet.errors import UsageError
from deconvnet.projection import Projection, display_scale, picture, to_pixels


def test_zero_is_mid_grey_and_the_scale_is_symmetric():
    values = torch.tensor([-9.0, -2.0, -1.0, 0.0, 1.0, 2.0, 9.0]).view(1, 1, 7).expand(3, 1, 7)
    pixels = to_pixels(values, scale=2.0)
    assert pixels.shape == (1, 7, 3)
    assert pixels[0, :, 0].tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_the_scale_is_a_percentile_of_absolute_values():
    values = torch.arange(-1000.0, 0.0).view(1, 1, 1000)
    assert display_scale(values) == pytest.approx(np.percentile(np.arange(1.0, 1001.0), 99.5))


def test_sparse_and_empty_projections_have_a_scale():
    sparse = torch.zeros(3, 100, 100)
    sparse[0, 0, 0] = -4.0
    assert display_scale(sparse) == 4.0
    assert display_scale(torch.zeros(3, 4, 4)) == 1.0
    assert np.unique(to_pixels(torch.zeros(3, 4, 4), 1.0)).tolist() == [128]


def test_several_projections_are_tiled_on_one_scale():
    projections = torch.zeros(5, 3, 8, 6)
    projections[0] = 1.0
    projections[4] = -1.0
    shown = np.asarray(picture(projections))
    assert shown.shape == (2 * 8 + 1, 3 * 6 + 2, 3)
    assert (shown[:8, :6] == 255).all()
    assert (shown[9:, 7:13] == 0).all()
    assert (shown[:8, 7:13] == 128).all()


def test_a_projection_displays_itself_in_notebooks():
    shown = torch.randn(1, 3, 8, 8).as_subclass(Projection)._repr_png_()
    assert shown.startswith(b"\x89PNG")


@pytest.mark.parametrize(("columns", "size"), [(None, (17, 17)), (3, (26, 8)), (1, (8, 26))])
def test_several_projections_are_tiled_in_rows_of_columns(columns, size):
    assert picture(torch.randn(3, 3, 8, 8), columns).size == size
    with pytest.raises(UsageError, match="columns is 1 or more"):
        picture(torch.randn(3, 3, 8, 8), 0)


def test_results_of_operations_on_a_projection_are_plain_tensors():
    projection = torch.full((1, 3, 8, 8), 0.25).as_subclass(Projection)
    for result in (projection.abs().max(), projection[0, 0], projection + 1, torch.cat([projection, projection])):
        assert type(result) is torch.Tensor
    assert str(projection.abs().max()) == "tensor(0.2500)"
    assert f"{projection.abs().max():.2e}" == "2.50e-01"
    assert projection[0, 0, 0, 0].item() == 0.25


def test_zeros_outside_the_receptive_field_do_not_influence_the_scale():
    projection = torch.zeros(3, 100, 100)
    projection[:, :10, :10] = torch.linspace(-1, 1, 100).view(10, 10)
    shown = np.asarray(picture(projection))
    assert shown[0, 0, 0] == 0
    assert 250 <= shown[9, 8, 0] <= 255
    assert (shown == 255).mean() < 0.001
