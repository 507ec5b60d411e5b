"""Fully connected layers give what torch's own give, in every precision and with a gradient."""

import pytest
import torch
import torch.nn.functional as F

from deconvnet.tracing.cpu_kernels import linear


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_torchs(rows, bias, dtype):
    x, weight = torch.randn(rows, 70, dtype=dtype), torch.randn(50, 70, dtype=dtype)
    offset = torch.randn(50, dtype=dtype) if bias else None
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.allclose(linear(x, weight, offset), F.linear(x, weight, offset), rtol=1e-5, atol=1e-5)


def test_more_dimensions_gradients_and_autocast_are_left_to_torch():
    x, weight = torch.randn(2, 3, 8), torch.randn(4, 8, requires_grad=True)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    assert linear(x[0], weight).requires_grad
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert linear(x[0], weight).dtype == torch.bfloat16


def test_its_arguments_may_lie_anyhow_in_memory():
    x, weight = torch.randn(16, 6).T, torch.randn(32, 10)[::2, ::2].T.contiguous().T[:, :5]
    with torch.no_grad():
        assert torch.allclose(linear(x[:, :5], weight), F.linear(x[:, :5], weight), rtol=1e-5, atol=1e-5)


def test_biases_that_lie_anyhow_and_odd_tensors_are_left_to_torch():
    x, weight = torch.randn(3, 6), torch.randn(5, 6)
    with torch.no_grad():
        for bias in (torch.randn(10)[::2], torch.ones(1).expand(5), torch.randn(1, 5)):
            assert torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-6)
        assert linear(torch.randn(3, 0), torch.randn(5, 0)).shape == (3, 5)
