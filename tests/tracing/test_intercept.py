"""Running a module with other functions in place of some of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet.tracing import Rules, evaluation_mode, run_intercepted


class Net(nn.Module):
    """Two rectified convolutions with local response normalisation between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.norm = nn.LocalResponseNorm(3, alpha=1.0, k=0.1)
        self.relu = nn.ReLU()
        self.outputs = []

    def forward(self, x):
        x = self.norm(self.relu(self.first(x)))
        x = F.relu(self.second(x), inplace=True)
        self.outputs.append(x)
        return x.mean(dim=(2, 3))


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8)


def test_the_callback_gets_layers_in_order_as_the_module_computes_them(net, x):
    captured = []
    output = run_intercepted(net, x, lambda index, maps: captured.append((index, maps.clone())))
    first = net.first(x).clamp(min=0)
    second = net.second(net.norm(first)).clamp(min=0)
    assert [index for index, _ in captured] == [0, 1]
    assert torch.equal(captured[0][1], first)
    assert torch.allclose(captured[1][1], second, rtol=1e-5, atol=1e-6)
    assert torch.allclose(output, second.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_a_callback_that_returns_true_ends_the_run(net, x):
    captured = []
    assert run_intercepted(net, x, lambda index, _: captured.append(index) or index == 0) is None
    assert captured == [0]
    assert net.outputs == []


def test_an_error_in_the_callback_reaches_the_caller(net, x):
    def callback(index, maps):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_intercepted(net, x, callback)


def test_rules_replace_relu_and_normalisation(net, x):
    calls = []

    def rectify(maps, ceiling, inplace):
        calls.append((ceiling, inplace))
        return maps.abs()

    def normalise(function, maps, size, alpha, beta, k):
        calls.append((size, alpha, beta, k))
        return maps + 1

    output = run_intercepted(net, x, lambda *_: False, Rules(rectify, normalise))
    expected = net.second(net.first(x).abs() + 1).abs().mean(dim=(2, 3))
    assert torch.allclose(output, expected)
    assert calls == [(None, False), (3, 1.0, 0.75, 0.1), (None, True)]


@pytest.mark.parametrize(
    ("relu", "ceiling", "inplace"),
    [
        (nn.ReLU6(), 6.0, False),
        (nn.ReLU6(inplace=True), 6.0, True),
        (F.relu6, 6.0, False),
        (nn.Hardtanh(0, 20), 20, False),
        (lambda x: x.clamp(0, 3), 3, False),
        (lambda x: x.clamp_(min=0), None, True),
        (torch.relu_, None, True),
    ],
)
def test_rules_get_ceiling_and_inplace(relu, ceiling, inplace):
    class Only(nn.Module):
        def forward(self, x):
            return relu(x)

    calls = []
    run_intercepted(
        Only(), torch.randn(1, 3, 4, 4), lambda *_: False, Rules(rectify=lambda *args: calls.append(args[1:]) or args[0])
    )
    assert calls == [(ceiling, inplace)]


def test_without_rules_values_and_gradients_are_the_modules_own(net, x):
    plain, intercepted = x.clone().requires_grad_(), x.clone().requires_grad_()
    net.eval()(plain).sum().backward()
    run_intercepted(net, intercepted, lambda *_: False).sum().backward()
    assert torch.allclose(intercepted.grad, plain.grad, rtol=1e-5, atol=1e-6)


def test_rules_end_with_the_run(net, x):
    before = net(x)
    run_intercepted(net, x, lambda *_: False, Rules(rectify=lambda maps, *_: maps * 0))
    assert torch.equal(net(x), before)


def flags(module):
    return [submodule.training for submodule in module.modules()]


@pytest.fixture
def mixed():
    """A module of which some submodules are training and some are not."""
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)), nn.ReLU()).train()
    module[1][1].eval()
    module[2].eval()
    return module


def test_evaluation_mode_restores_every_submodules_mode(mixed):
    before = flags(mixed)
    with evaluation_mode(mixed):
        assert not any(flags(mixed))
    assert flags(mixed) == before


def test_evaluation_mode_restores_modes_after_an_error(mixed):
    before = flags(mixed)
    with pytest.raises(ZeroDivisionError), evaluation_mode(mixed):
        raise ZeroDivisionError
    assert flags(mixed) == before


def test_evaluation_mode_leaves_an_evaluating_module_alone(mixed):
    mixed.eval()
    with evaluation_mode(mixed):
        pass
    assert not any(flags(mixed))


@pytest.mark.parametrize("stop", [True, False])
def test_modes_are_restored_whether_or_not_the_run_is_ended(mixed, stop):
    before = flags(mixed)
    modes = []
    run_intercepted(mixed, torch.randn(2, 3, 4, 4), lambda *_: modes.append(flags(mixed)) or stop)
    assert modes == [[False] * len(before)]
    assert flags(mixed) == before


def test_modes_are_restored_when_the_forward_raises(mixed):
    before = flags(mixed)
    with pytest.raises(RuntimeError):
        run_intercepted(mixed, torch.randn(2, 7, 4, 4), lambda *_: False)
    assert flags(mixed) == before


def test_batch_statistics_do_not_change(mixed):
    mixed[1][1].train()
    before = mixed[1][1].running_mean.clone()
    run_intercepted(mixed, torch.randn(8, 3, 4, 4) + 5, lambda *_: False)
    assert torch.equal(mixed[1][1].running_mean, before)
