"""Filters that are copies, faint, or of a known strength."""

import pytest
import torch

from deconvnet.experiments.fig6_comparison.filter_stats import DUPLICATE_COSINE, filter_rms, is_faint, nearest_cosine
from deconvnet.tracing import LayerWeights


def test_rms_is_the_root_of_the_mean_square():
    weights = torch.stack([torch.full((3, 2, 2), 0.5), torch.zeros(3, 2, 2), torch.tensor([3.0, 4.0] * 6).view(3, 2, 2)])
    assert filter_rms(LayerWeights(weights)).tolist() == pytest.approx([0.5, 0, 12.5**0.5])


def test_a_copy_is_found_at_any_strength_and_a_negative_is_none():
    weights = torch.randn(6, 3, 5, 5)
    weights[4] = 2 * weights[1]
    weights[5] = -weights[0]
    found = nearest_cosine(LayerWeights(weights))
    assert found[[1, 4]].tolist() == pytest.approx([1, 1])
    assert (found[[0, 2, 3, 5]] < DUPLICATE_COSINE).all()


def test_cosines_are_those_of_the_plain_loop():
    weights = torch.randn(700, 2, 3, 3)  # more than are computed at once
    flat = weights.flatten(1).double()
    for unit in (0, 511, 512, 699):
        want = max(
            float(flat[unit] @ flat[other] / (flat[unit].norm() * flat[other].norm()))
            for other in range(700)
            if other != unit
        )
        assert nearest_cosine(LayerWeights(weights))[unit].item() == pytest.approx(want)


def test_filters_of_other_groups_are_no_copies():
    weights = torch.randn(4, 3, 5, 5)
    weights[2] = weights[0]
    assert nearest_cosine(LayerWeights(weights, groups=1))[0].item() == pytest.approx(1)
    assert (nearest_cosine(LayerWeights(weights, groups=2)) < DUPLICATE_COSINE).all()


def test_zero_filters_and_single_ones_have_no_likeness():
    weights = torch.randn(4, 3, 5, 5)
    weights[[1, 2]] = 0
    assert nearest_cosine(LayerWeights(weights)).isnan().tolist() == [False, True, True, False]
    assert nearest_cosine(LayerWeights(weights[:1])).isnan().all()
    assert nearest_cosine(LayerWeights(torch.zeros(3, 3, 5, 5))).isnan().all()
    assert nearest_cosine(LayerWeights(torch.randn(3, 10))).isnan().sum() == 0  # a fully connected layer's


def test_faint_filters_are_grey_beside_the_strongest():
    weights = torch.zeros(4, 3, 5, 5)
    weights[0, 1, 2, 2], weights[1, 0, 0, 0], weights[2, 2, 4, 4] = -1.0, 0.099, 0.101
    assert is_faint(LayerWeights(weights)).tolist() == [False, True, False, True]
    assert is_faint(LayerWeights(torch.zeros(2, 3, 5, 5))).all()
