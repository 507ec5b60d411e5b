"""The CPU kernels compute what torch's functions do, and leave the cases that they do not support to torch."""

import pytest
import torch
import torch.nn.functional as F

from deconvnet.tracing.cpu_kernels import conv_transpose, convolve, linear


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (5, 5), (7, 4)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("size", [(13, 16), (20, 11)])
def test_the_backward_pass_of_convolve_is_torchs(stride, kernel, padding, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(6, 3, *kernel, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    expected = torch.conv2d(x, weight, bias, stride, padding)
    actual = convolve(x, weight, bias, stride, padding)
    assert torch.equal(actual, expected)
    signal = torch.randn_like(expected)
    gradients = [torch.autograd.grad(output, x, signal)[0] for output in (actual, expected)]
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-12)
    assert type(actual.grad_fn).__name__ != type(expected.grad_fn).__name__


def test_conv_transpose_against_its_definition():
    """Each position of the signal adds its value times the filter to the pixels of its window."""
    signal, weight = torch.randn(1, 2, 3, 2, dtype=torch.float64), torch.randn(2, 1, 3, 5, dtype=torch.float64)
    expected = torch.zeros(1, 1, 9 + 2, 10 + 2, dtype=torch.float64)
    for map_, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)).tolist():
        expected[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 5] += signal[0, map_, row, column] * weight[map_]
    actual = conv_transpose(signal, weight, 2, (1, 1), (9, 10))
    assert torch.allclose(actual, expected[..., 1:10, 1:11], rtol=1e-12)


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
def test_convolve_leaves_unsupported_options_to_torch(options):
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    weight = torch.randn(6, 3 // options.get("groups", 1), 3, 3, requires_grad=True)
    actual, expected = convolve(x, weight, **options), torch.conv2d(x, weight, **options)
    assert torch.equal(actual, expected)
    assert actual.grad_fn.name() == expected.grad_fn.name()


def test_computed_weights_of_convolve_get_a_gradient():
    """As in a network that computes its filters from the image: the gradient of the pixels includes theirs."""
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    weight = x.mean() * torch.ones(4, 3, 3, 3)
    (actual,), (expected,) = (
        torch.autograd.grad(output.square().sum(), x, retain_graph=True)
        for output in (convolve(x, weight), torch.conv2d(x, weight))
    )
    assert torch.allclose(actual, expected)


def test_a_computed_bias_of_convolve_gets_a_gradient():
    x, weight = torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3)
    bias = x.mean() * torch.ones(4)
    (actual,), (expected,) = (
        torch.autograd.grad(output.square().sum(), x, retain_graph=True)
        for output in (convolve(x, weight, bias), torch.conv2d(x, weight, bias))
    )
    assert torch.allclose(actual, expected)


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_is_torchs(rows, bias, dtype):
    x, weight = torch.randn(rows, 70, dtype=dtype), torch.randn(50, 70, dtype=dtype)
    values = torch.randn(50, dtype=dtype) if bias else None
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.allclose(linear(x, weight, values), F.linear(x, weight, values), rtol=1e-5, atol=1e-5)


def test_linear_leaves_more_dimensions_gradients_and_autocast_to_torch():
    x, weight = torch.randn(2, 3, 8), torch.randn(4, 8, requires_grad=True)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    assert linear(x[0], weight).requires_grad
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert linear(x[0], weight).dtype == torch.bfloat16


def test_the_arguments_of_linear_may_have_any_strides():
    x, weight = torch.randn(16, 6).T, torch.randn(32, 10)[::2, ::2].T.contiguous().T[:, :5]
    with torch.no_grad():
        assert torch.allclose(linear(x[:, :5], weight), F.linear(x[:, :5], weight), rtol=1e-5, atol=1e-5)


def test_linear_accepts_biases_of_any_strides_and_empty_tensors():
    x, weight = torch.randn(3, 6), torch.randn(5, 6)
    with torch.no_grad():
        for bias in (torch.randn(10)[::2], torch.ones(1).expand(5), torch.randn(1, 5)):
            assert torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-6)
        assert linear(torch.randn(3, 0), torch.randn(5, 0)).shape == (3, 5)
