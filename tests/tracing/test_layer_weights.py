"""The weights that a layer is computed with."""

import pytest
import torch
from torch import nn

from deconvnet.tracing import layer_weights, trace


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


def weights_of(layer_index, *modules, size=20):
    return layer_weights(trace(nn.Sequential(*modules), torch.rand(1, 3, size, size)), layer_index)


def test_a_layer_has_the_weights_of_the_convolution_before_its_relu():
    first, second = nn.Conv2d(3, 4, (3, 5), stride=2), nn.Conv2d(4, 6, 3, groups=2)
    for between in (nn.Identity(), nn.BatchNorm2d(4), nn.Sequential(nn.MaxPool2d(2), nn.Dropout())):
        modules = first, between, nn.ReLU(inplace=True), second, nn.ReLU()
        lower, upper = weights_of(0, *modules), weights_of(1, *modules)
        assert torch.equal(lower.weights, first.weight)
        assert torch.equal(upper.weights, second.weight)
        assert (lower.groups, upper.groups) == (1, 2)
        assert not lower.weights.requires_grad


def test_a_fully_connected_layer_has_its_rows_of_weights():
    linear = nn.Linear(4 * 100, 7)
    modules = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), linear, nn.ReLU()
    assert torch.equal(weights_of(1, *modules).weights, linear.weight)
    assert weights_of(1, *modules).groups == 1


class LessItsMean(nn.Module):
    def forward(self, x):
        return x - x.mean()


def test_batch_normalisation_rescales():
    conv = nn.Conv2d(3, 4, 3)
    assert not weights_of(0, conv, nn.ReLU()).rescaled
    assert weights_of(0, conv, nn.BatchNorm2d(4), nn.ReLU()).rescaled


def test_a_convolution_below_is_detected():
    colour, conv = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3)
    assert weights_of(0, conv, nn.ReLU()).is_first
    assert not weights_of(0, colour, conv, nn.ReLU()).is_first


@pytest.mark.parametrize(
    "modules",
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
def test_a_layer_of_no_single_product_has_no_weights(modules):
    assert weights_of(1, nn.Conv2d(3, 4, 3), nn.ReLU(), *modules) is None
