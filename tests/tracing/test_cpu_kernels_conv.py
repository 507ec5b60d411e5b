"""The quick way down through a convolution is that of torch's own, whatever its stride, padding and sizes."""

import pytest
import torch

from deconvnet.tracing.cpu_kernels import convolve, transposed


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (5, 5), (7, 4)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("size", [(13, 16), (20, 11)])
def test_the_way_down_is_torchs(stride, kernel, padding, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(6, 3, *kernel, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    wanted = torch.conv2d(x, weight, bias, stride, padding)
    found = convolve(x, weight, bias, stride, padding)
    assert torch.equal(found, wanted)
    signal = torch.randn_like(wanted)
    down = [torch.autograd.grad(output, x, signal)[0] for output in (found, wanted)]
    assert torch.allclose(*down, rtol=1e-12, atol=1e-12)
    assert type(found.grad_fn).__name__ != type(wanted.grad_fn).__name__


def test_the_transpose_against_its_definition():
    """Each place of the signal adds its value times the filter at the pixels that the place was made from."""
    signal, weight = torch.randn(1, 2, 3, 2, dtype=torch.float64), torch.randn(2, 1, 3, 5, dtype=torch.float64)
    wanted = torch.zeros(1, 1, 9 + 2, 10 + 2, dtype=torch.float64)
    for map_, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)).tolist():
        wanted[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 5] += signal[0, map_, row, column] * weight[map_]
    found = transposed(signal, weight, 2, (1, 1), (9, 10))
    assert torch.allclose(found, wanted[..., 1:10, 1:11], rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 3},
        {"dilation": 2},
        {"stride": (1, 2)},
        {"padding": "same"},
        {"padding": "valid"},
    ],
)
def test_what_it_is_not_made_for_is_left_to_torch(options):
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    weight = torch.randn(6, 3 // options.get("groups", 1), 3, 3, requires_grad=True)
    found, wanted = convolve(x, weight, **options), torch.conv2d(x, weight, **options)
    assert torch.equal(found, wanted)
    assert found.grad_fn.name() == wanted.grad_fn.name()


def test_weights_that_are_computed_get_their_gradient():
    """As of a network that makes its filters of the image: the pixels' gradient goes through them too."""
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    weight = x.mean() * torch.ones(4, 3, 3, 3)
    (found,), (wanted,) = (
        torch.autograd.grad(made.square().sum(), x, retain_graph=True)
        for made in (convolve(x, weight), torch.conv2d(x, weight))
    )
    assert torch.allclose(found, wanted)


def test_a_bias_that_is_computed_gets_its_gradient():
    x, weight = torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3)
    bias = x.mean() * torch.ones(4)
    (found,), (wanted,) = (
        torch.autograd.grad(made.square().sum(), x, retain_graph=True)
        for made in (convolve(x, weight, bias), torch.conv2d(x, weight, bias))
    )
    assert torch.allclose(found, wanted)
