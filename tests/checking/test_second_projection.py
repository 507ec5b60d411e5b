"""The second implementation of projections, which `check` compares the first one with, against oracles of the tests."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from deconvnet.checking.second_projection import SecondProjection, plain_copy
from oracles import plain_deconvnet as plain
from oracles.hand_placed_rules import Deconvnet, Layers


class Branches(nn.Module):
    """A residual sum and a concatenation, with ReLUs in place. `forward` is what a user might write; `run` the same with the
    ReLU as an argument and nothing in place.
    """

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(12, 5, 3, stride=2)

    def forward(self, x):
        x = self.a(x).relu_()
        y = F.relu(self.b(x), inplace=True)
        y += x
        y = F.max_pool2d(torch.cat([F.relu6(y), x], dim=1), 3, 2, ceil_mode=True)
        return F.threshold(self.c(y), 0, 0)

    def run(self, x, relu: Layers):
        x = relu(self.a(x))
        y = relu(self.b(x)) + x
        y = F.max_pool2d(torch.cat([relu(y, 6.0), x], dim=1), 3, 2, ceil_mode=True)
        return relu(self.c(y))


def test_a_module_with_branches():
    module, x = Branches().double().eval(), torch.randn(1, 3, 17, 20, dtype=torch.float64)
    second, oracle = SecondProjection(plain_copy(module, torch.float64), x), Deconvnet(module.run, x)
    assert len(second.relus) == len(oracle.maps) == 4
    for layer, (relu, maps) in enumerate(zip(second.relus, oracle.maps, strict=True)):
        assert torch.equal(relu.maps, maps)
        assert second.find(maps.detach() * (1 + 1e-12)) == relu
        for unit, row, column in maps[0].nonzero()[::97].tolist():
            want = oracle.project(layer, unit, row, column)
            assert (second.project(relu, unit, row, column) - want).norm() <= 1e-12 * want.norm()
        assert second.without_rule(relu) == []


class OlderNorm(nn.Module):
    """As older collections of models write it."""

    def forward(self, x):
        squares = nn.functional.avg_pool3d(x.pow(2).unsqueeze(1), (5, 1, 1), 1, (2, 0, 0)).squeeze(1)
        return x.div(squares.mul(0.5).add(2).pow(0.75))


class NormaliseBy(plain.Normalise):
    """A module for the way up, and the identity for the way down."""

    def __init__(self, module):
        self.up = module


NORMS = [nn.LocalResponseNorm(5, 0.5, 0.75, 2), nn.CrossMapLRN2d(5, 0.5, 0.75, 2), OlderNorm()]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_normalisation_is_skipped(norm):
    first, last = nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 4, 3)
    module = nn.Sequential(first, nn.ReLU(), norm, nn.MaxPool2d(2), last, nn.ReLU()).double().eval()
    x = torch.randn(1, 3, 25, 25, dtype=torch.float64)
    pool = plain.Pool(2, 2, ceil=False)
    steps = [plain.Convolve(first), plain.Rectify(), NormaliseBy(norm), pool, plain.Convolve(last), plain.Rectify()]
    with torch.no_grad():
        layers = plain.forward(steps, x)
        second = SecondProjection(plain_copy(module, torch.float64), x)
        for layer, relu in enumerate(second.relus):
            unit, row, column = relu.maps[0].nonzero()[-1].tolist()
            want = plain.project(steps, layers, layer, unit, row, column)[0]
            got = second.project(relu, unit, row, column)
            assert want.norm() > 0
            assert (got - want).norm() <= 1e-12 * want.norm()
            assert second.without_rule(relu) == []


SPELLINGS = {
    "relu": torch.relu,
    "in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clip, by a tensor": lambda x: x.clip(min=torch.zeros(())),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "hardtanh": lambda x: F.hardtanh(x, 0, 1e9),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, the other way round": lambda x: torch.maximum(torch.zeros_like(x), x),
    "an operator": torch.ops.aten.relu,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_relu_is_one_however_it_is_spelt(spelling):
    convolution, relu = nn.Conv2d(3, 4, 3).double().requires_grad_(False), SPELLINGS[spelling]

    class Module(nn.Module):
        def forward(self, x):
            return relu(convolution(x))

    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    second = SecondProjection(Module(), x)
    oracle = Deconvnet(lambda x, relu: relu(convolution(x)), x)
    assert len(second.relus) == 1
    unit, row, column = oracle.maps[0][0].nonzero()[5].tolist()
    assert torch.equal(second.relus[0].maps, oracle.maps[0])
    assert (second.project(second.relus[0], unit, row, column) - oracle.project(0, unit, row, column)).abs().max() <= 1e-12


@pytest.mark.parametrize(
    "function", [torch.sigmoid, torch.tanh, F.leaky_relu, lambda x: x.clamp(min=0.1), lambda x: x.clamp(max=0), torch.abs]
)
def test_other_functions_are_none(function):
    second = SecondProjection(
        nn.Sequential(nn.Conv2d(3, 4, 3), Apply(function)).requires_grad_(False), torch.randn(1, 3, 8, 8)
    )
    assert second.relus == []


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


GATES = {
    "mul sigmoid": lambda x: x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True)),
    "softmax": lambda x: x.softmax(dim=1),
    "div": lambda x: x / x.norm(),
    "pow": lambda x: x**2,
    "div over places": lambda x: x / (1 + F.avg_pool3d((x * x)[:, None], 3, 1, 1)[:, 0]) ** 0.75,
}


@pytest.mark.parametrize("gate", GATES)
def test_what_has_no_rule_is_named(gate):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Apply(GATES[gate]), nn.Conv2d(4, 4, 1), nn.ReLU())
    second = SecondProjection(plain_copy(module, torch.float64), torch.randn(1, 3, 8, 8, dtype=torch.float64))
    first, last = second.relus
    assert second.without_rule(first) == []
    assert set(second.without_rule(last)) >= set(gate.partition(" over")[0].split())


def test_maps_with_units_last():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), Apply(lambda x: x.permute(0, 2, 3, 1).relu()))
    second = SecondProjection(plain_copy(module, torch.float64), x := torch.randn(1, 3, 8, 9, dtype=torch.float64))
    oracle = Deconvnet(lambda x, relu: relu(module.double()[0](x)), x)
    relu = second.find(oracle.maps[0].detach())
    unit, row, column = oracle.maps[0][0].nonzero()[7].tolist()
    assert (second.project(relu, unit, row, column) - oracle.project(0, unit, row, column)).abs().max() <= 1e-12


def test_a_copy_has_no_backward_hooks_and_weights_of_its_own():
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3), nn.ReLU())
    prune.l1_unstructured(module[1], "weight", 0.5)
    module[2].register_full_backward_hook(lambda *_: (torch.full((1, 4, 4, 4), torch.nan),))
    module.train()
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    before = module(x)
    plain = plain_copy(module, torch.float64)
    assert (plain(x.detach().double()) - before).abs().max() <= 1e-6
    assert not plain.training
    assert module.training
    assert {tensor.dtype for tensor in plain.state_dict().values()} == {torch.float64}
    assert all(tensor.requires_grad for tensor in module.parameters())
    second = SecondProjection(plain, x.detach().double())
    assert second.project(second.relus[0], *second.relus[0].maps[0].nonzero()[0].tolist()).isfinite().all()


def test_hooks_that_a_module_sets_on_maps_are_not():
    def look(x):
        x = x * 1
        handle = x.register_hook(lambda signal: signal * torch.nan)
        x.register_hook(lambda signal: signal * torch.nan)
        handle.remove()
        return x

    module = nn.Sequential(nn.Conv2d(3, 4, 3), Apply(look), nn.ReLU())
    second = SecondProjection(plain_copy(module, torch.float64), torch.randn(1, 3, 8, 8, dtype=torch.float64))
    assert second.project(second.relus[0], *second.relus[0].maps[0].nonzero()[0].tolist()).isfinite().all()


def test_a_view_may_be_changed_in_place():
    first, last = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 4, 3).double()

    def rectify(x):
        nn.ReLU(inplace=True)(x[:, :2])
        x[:, 2:].sub_(0.1).relu_()
        return x

    def plain_rectify(x, relu):
        return torch.cat([relu(x[:, :2]), relu(x[:, 2:] - 0.1)], dim=1)

    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    module = nn.Sequential(first, Apply(rectify), last, nn.ReLU())
    compare(
        SecondProjection(plain_copy(module, torch.float64), x), lambda x, relu: relu(last(plain_rectify(first(x), relu))), 3
    )


def compare(second, run, layers):
    """Whether a projection from each layer is the oracle's."""
    oracle = Deconvnet(run, second.x.detach())
    assert len(second.relus) == len(oracle.maps) == layers
    for layer, relu in enumerate(second.relus):
        unit, row, column = relu.maps[0].nonzero()[5].tolist()
        want = oracle.project(layer, unit, row, column)
        assert want.any()
        assert (second.project(relu, unit, row, column) - want).abs().max() <= 1e-12


def test_parts_of_a_split_may_be_changed_in_place():
    first = nn.Conv2d(3, 4, 3)

    def parts(x):
        one, other = x.chunk(2, dim=1)
        return torch.cat([other.sub_(0.1).relu_(), one.relu_(), x], dim=1)

    def plain_parts(x, relu):
        one, other = x[:, :2], x[:, 2:] - 0.1
        other, one = relu(other), relu(one)
        return torch.cat([other, one, one, other], dim=1)

    module, x = (
        nn.Sequential(first, Apply(parts), nn.Conv2d(8, 4, 3), nn.ReLU()),
        torch.randn(1, 3, 9, 9, dtype=torch.float64),
    )
    second = SecondProjection(plain_copy(module, torch.float64), x)
    last = module.double()[2]
    compare(second, lambda x, relu: relu(last(plain_parts(first(x), relu))), 3)
