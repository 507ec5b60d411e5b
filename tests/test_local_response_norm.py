"""Local response normalisation against Krizhevsky et al.'s formula as a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from deconvnet import local_response_norm as module
from deconvnet.errors import UsageError
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants, local_response_norm
from deconvnet.tracing import Rules, run_intercepted


def plain(x, n, alpha, beta, k):
    """b_i = a_i / (k + alpha · Σ a_j²)^beta with j from max(0, i − n/2) to min(N − 1, i + n/2)."""
    result = torch.empty_like(x)
    for i in range(x.shape[1]):
        total = torch.zeros_like(x[:, 0])
        for j in range(max(0, i - n // 2), min(x.shape[1] - 1, i + n // 2) + 1):
            total += x[:, j] ** 2
        result[:, i] = x[:, i] / (k + alpha * total) ** beta
    return result


@pytest.mark.parametrize("constants", [LRNConstants(), LRNConstants(k=1.0), LRNConstants(3, 0.3, 0.5, 1.5)], ids=str)
def test_it_is_the_formula_with_alpha_divided_by_n(constants):
    x = torch.rand(2, 9, 3, 4, dtype=torch.float64) * 50
    found = LocalResponseNorm(constants)(x)
    expected = plain(x, constants.n, constants.alpha / constants.n, constants.beta, constants.k)
    assert torch.allclose(found, expected, rtol=1e-12)
    assert not torch.allclose(found, plain(x, constants.n, constants.alpha, constants.beta, constants.k), rtol=1e-3)


def test_the_printed_formula_is_had_with_five_times_alpha():
    x = torch.rand(2, 9, 3, 4, dtype=torch.float64) * 50
    assert torch.allclose(LocalResponseNorm(LRNConstants(alpha=5e-4))(x), plain(x, 5, 1e-4, 0.75, 2.0), rtol=1e-12)


def test_the_constants_are_krizhevskys():
    constants = LRNConstants()
    assert (constants.n, constants.alpha, constants.beta, constants.k) == (5, 1e-4, 0.75, 2.0)
    assert "alpha=0.0001" in repr(LocalResponseNorm(constants))


@pytest.mark.parametrize("constants", [{"k": 0.0}, {"k": -1.0}, {"n": 0}])
def test_constants_that_divide_by_zero_are_refused(constants):
    with pytest.raises(UsageError, match="n is at least 1, k above 0"):
        LRNConstants(**constants)


ALL = [LRNConstants(n, 0.3, beta, 1.5) for n in range(1, 8) for beta in (0.75, 0.5)]


def torchs(x, c):
    return F.local_response_norm(x, c.n, c.alpha, c.beta, c.k)


def ours(x, c):
    return local_response_norm(x, c.n, c.alpha, c.beta, c.k)


@pytest.mark.parametrize("compiling", [False, True], ids=["in parts", "in whole, as torch.compile has it"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["", "channels last"])
@pytest.mark.parametrize("constants", ALL, ids=str)
def test_forward_and_backward_are_torchs(constants, layout, compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    monkeypatch.setattr(module, "_POSITIONS_PER_CHUNK", 7)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    expected, found = torchs(x, constants), ours(x, constants)
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)
    signal = torch.randn(expected.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad(y, x, signal)[0] for y in (expected, found)]
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-13)


def test_the_gradient_is_that_of_the_differences_and_has_one_itself():
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x: ours(x, LRNConstants(3, 0.7, 0.75, 1.0)), x)


def test_functional_gradients_are_torchs():
    x, constants = torch.randn(3, 4, 2, 2, dtype=torch.float64), LRNConstants(3, 0.7, 0.75, 1.0)
    found, expected = (
        torch.func.vmap(torch.func.jacrev(torch.func.grad(lambda x, norm=norm: (norm(x[None], constants) ** 3).sum())))(x)
        for norm in (ours, torchs)
    )
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_gradients_may_lie_anyhow_in_memory():
    x = torch.randn(2, 6, 8, 8)[:, :, ::2, ::2].requires_grad_()
    for signal in (torch.ones(()).expand(x.shape), torch.randn(4, 4, 6, 2).permute(3, 2, 0, 1)):
        found, expected = (torch.autograd.grad(norm(x, ALL[6]), x, signal)[0] for norm in (ours, torchs))
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("maps", [1, 2, 3])
def test_fewer_maps_than_neighbours(maps):
    x = torch.randn(2, maps, 3, 3, dtype=torch.float64)
    assert torch.allclose(ours(x, LRNConstants()), torchs(x, LRNConstants()), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_computes_in_float32_whatever_it_is_given(dtype):
    x = (torch.randn(2, 96, 9, 9) * 100).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    expected, signal = torchs(exact, LRNConstants()), torch.randn(2, 96, 9, 9).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):  # which must not reach its products, in either direction
        found = ours(x, LRNConstants())
        (gradient,) = torch.autograd.grad(found, x, signal)
    (exact_gradient,) = torch.autograd.grad(expected, exact, signal.double())
    assert found.dtype == gradient.dtype == dtype
    rounding = torch.finfo(dtype).eps * 4
    assert torch.allclose(found.double(), expected, rtol=rounding)
    assert torch.allclose(gradient.double(), exact_gradient, rtol=rounding, atol=max(1e-6, rounding * 1e-2))


def test_whoever_watches_sees_torchs_own_function(monkeypatch):
    monkeypatch.setattr(module, "_normalise", None)  # would fail if it were called
    network = torch.nn.Sequential(torch.nn.ReLU(), LocalResponseNorm(LRNConstants()))
    x = torch.rand(1, 8, 3, 3)
    seen = []
    rules = Rules(normalise=lambda function, x, size, **constants: seen.append((size, *constants.values())) or x)
    assert torch.equal(run_intercepted(network, x, lambda number, output: False, rules), x)
    assert seen == [(5, 1e-4, 0.75, 2.0)]


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (6, 5, 4)])
def test_a_watched_network_normalises_as_torch_does(shape):
    network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.LocalResponseNorm(5, 0.3, 0.6, 1.5))
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(run_intercepted(network, x.clone(), lambda number, output: False), network(x), rtol=1e-12)
    assert torch.allclose(local_response_norm(x, 5, 0.3, 0.6, 1.5), F.local_response_norm(x, 5, 0.3, 0.6, 1.5))


@pytest.mark.parametrize("photos", [1, 3])
def test_its_output_is_in_channels_last(photos):
    x = torch.rand(photos, 4, 5, 6)
    assert ours(x, LRNConstants()).is_contiguous(memory_format=torch.channels_last)


def test_nothing_is_left_of_fake_tensors():
    constants, x = LRNConstants(n=2, alpha=0.123), torch.rand(1, 11, 2, 2)
    with FakeTensorMode():
        assert ours(torch.rand(1, 11, 2, 2), constants).shape == x.shape
    assert torch.allclose(ours(x, constants), torchs(x, constants))


def test_no_places():
    assert ours(torch.rand(0, 4, 3, 3), LRNConstants()).shape == (0, 4, 3, 3)


def test_its_output_may_be_changed_in_place():
    x = torch.rand(2, 4, 3, 3, requires_grad=True)
    ours(x, LRNConstants()).mul_(2).sum().backward()
    assert torch.allclose(x.grad, torch.autograd.grad(2 * torchs(x, LRNConstants()).sum(), x)[0], rtol=1e-4)
