"""Contrast normalisation against Krizhevsky et al.'s formula as a plain loop."""

import pytest
import torch

from deconvnet.errors import UsageError
from deconvnet.networks.contrast import ContrastConstants, ContrastNorm


def plain(x, n, alpha, beta, k):
    """b_i = a_i / (k + alpha · Σ a_j²)^beta with j from max(0, i − n/2) to min(N − 1, i + n/2)."""
    result = torch.empty_like(x)
    for i in range(x.shape[1]):
        total = torch.zeros_like(x[:, 0])
        for j in range(max(0, i - n // 2), min(x.shape[1] - 1, i + n // 2) + 1):
            total += x[:, j] ** 2
        result[:, i] = x[:, i] / (k + alpha * total) ** beta
    return result


@pytest.mark.parametrize(
    "constants", [ContrastConstants(), ContrastConstants(k=1.0), ContrastConstants(3, 0.3, 0.5, 1.5)], ids=str
)
def test_it_is_the_formula_with_alpha_divided_by_n(constants):
    x = torch.rand(2, 9, 3, 4, dtype=torch.float64) * 50
    found = ContrastNorm(constants)(x)
    expected = plain(x, constants.n, constants.alpha / constants.n, constants.beta, constants.k)
    assert torch.allclose(found, expected, rtol=1e-12)
    assert not torch.allclose(found, plain(x, constants.n, constants.alpha, constants.beta, constants.k), rtol=1e-3)


def test_the_printed_formula_is_had_with_five_times_alpha():
    x = torch.rand(2, 9, 3, 4, dtype=torch.float64) * 50
    assert torch.allclose(ContrastNorm(ContrastConstants(alpha=5e-4))(x), plain(x, 5, 1e-4, 0.75, 2.0), rtol=1e-12)


def test_the_constants_are_krizhevskys():
    constants = ContrastConstants()
    assert (constants.n, constants.alpha, constants.beta, constants.k) == (5, 1e-4, 0.75, 2.0)
    assert "alpha=0.0001" in repr(ContrastNorm(constants))


@pytest.mark.parametrize("constants", [{"k": 0.0}, {"k": -1.0}, {"n": 0}])
def test_constants_that_divide_by_zero_are_refused(constants):
    with pytest.raises(UsageError, match="n is at least 1, k above 0"):
        ContrastConstants(**constants)
