"""Top-1 and top-5 errors, against sorting every row."""

import pytest
import torch

from deconvnet.training import topk_errors
from oracles.plain_ten_views import wrong_of


def errors(scores, targets):
    return tuple(topk_errors(scores, targets).tolist())


def test_among_equal_scores_the_first_class_ranks_higher():
    equal = torch.full((6, 6), 1 / 6)
    assert errors(equal, torch.arange(6)) == (5, 1)  # only class 0 is first, only class 5 is not among the first five
    assert errors(torch.tensor([[0.1, 0.7, 0.2]] * 3), torch.tensor([0, 1, 2])) == (2, 0)
    assert errors(torch.tensor([[0.3, 0.2, 0.15, 0.14, 0.11, 0.1]] * 6), torch.arange(6)) == (5, 1)
    assert errors(torch.tensor([[0.0, 2.0, 2.0]] * 3), torch.tensor([0, 1, 2])) == (2, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 5, 6, 40])
def test_errors_are_those_of_sorted_classes(dtype, classes):
    generator = torch.Generator().manual_seed(classes)
    scores = torch.randint(-4, 5, (300, classes), generator=generator).to(dtype)  # many ties
    targets = torch.randint(classes, (300,), generator=generator)
    assert errors(scores, targets) == wrong_of(list(scores.double().numpy()), targets.tolist())


def test_nan_is_never_right():
    scores = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    best = scores.argmax(dim=1)
    assert errors(scores, best) == (0, 0)
    assert errors(scores.fill_(torch.nan), best) == (8, 8)
