"""Which weights make a layer."""

import pytest
import torch
from torch import nn

from deconvnet.tracing import filters, trace


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


def found(layer, *parts, size=20):
    return filters(trace(nn.Sequential(*parts), torch.rand(1, 3, size, size)), layer)


def test_filters_are_those_of_the_convolution_before_the_relu():
    first, second = nn.Conv2d(3, 4, (3, 5), stride=2), nn.Conv2d(4, 6, 3, groups=2)
    for between in (nn.Identity(), nn.BatchNorm2d(4), nn.Sequential(nn.MaxPool2d(2), nn.Dropout())):
        parts = first, between, nn.ReLU(inplace=True), second, nn.ReLU()
        one, two = found(0, *parts), found(1, *parts)
        assert torch.equal(one.weights, first.weight)
        assert torch.equal(two.weights, second.weight)
        assert (one.groups, two.groups) == (1, 2)
        assert not one.weights.requires_grad


def test_a_fully_connected_layer_has_its_rows_of_weights():
    linear = nn.Linear(4 * 100, 7)
    parts = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), linear, nn.ReLU()
    assert torch.equal(found(1, *parts).weights, linear.weight)
    assert found(1, *parts).groups == 1


class LessItsMean(nn.Module):
    def forward(self, x):
        return x - x.mean()


def test_batch_normalisation_is_told_of():
    conv = nn.Conv2d(3, 4, 3)
    assert not found(0, conv, nn.ReLU()).rescaled
    assert found(0, conv, nn.BatchNorm2d(4), nn.ReLU()).rescaled


def test_a_product_below_is_told_of():
    colours, conv = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3)
    assert found(0, conv, nn.ReLU()).lowest
    assert not found(0, colours, conv, nn.ReLU()).lowest


@pytest.mark.parametrize(
    "parts",
    [
        [Residual(), nn.ReLU()],
        [nn.Conv2d(4, 8, 3), nn.PixelShuffle(2), nn.ReLU()],
        [nn.Conv2d(4, 8, 3), nn.GLU(dim=1), nn.ReLU()],
        [nn.Conv2d(4, 4, 3), nn.ChannelShuffle(2), nn.ReLU()],
        [nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(4, 4, 3), LessItsMean(), nn.ReLU()],
    ],
    ids=["a sum", "another number of units", "a gate", "units in another order", "no convolution at all", "less its mean"],
)
def test_what_is_not_made_by_one_product_has_none(parts):
    assert found(1, nn.Conv2d(3, 4, 3), nn.ReLU(), *parts) is None
