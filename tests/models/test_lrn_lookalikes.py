"""Modules that compute local response normalisation in a way of their own are recognised, and nothing else is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetWarning
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import Network
from deconvnet.models.lrn_lookalikes import lrn_constants, wrap_lookalikes
from deconvnet.projection import project_batch

SIZE = 20


class ByPooling(nn.Module):
    """As collections of models of 2017 have it."""

    def __init__(self, size=5, alpha=0.5, beta=0.75, k=1.0, across_maps=True):
        super().__init__()
        self.across_maps, self.alpha, self.beta, self.k = across_maps, alpha, beta, k
        if across_maps:
            self.average = nn.AvgPool3d((size, 1, 1), stride=1, padding=((size - 1) // 2, 0, 0))
        else:
            self.average = nn.AvgPool2d(size, stride=1, padding=(size - 1) // 2)

    def forward(self, x):
        squares = self.average(x.pow(2).unsqueeze(1)).squeeze(1) if self.across_maps else self.average(x.pow(2))
        return x.div(squares.mul(self.alpha).add(self.k).pow(self.beta))


class ByMaps(nn.Module):
    """From the definition, map by map, without dividing alpha by n; it keeps the scale."""

    def forward(self, x):
        squares = [x[:, max(i - 1, 0) : i + 2].square().sum(1) for i in range(x.shape[1])]
        self.scale = 2 + 0.25 * torch.stack(squares, dim=1)
        return x * self.scale**-0.5


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Net(nn.Module):
    """With `pass_signals`, the normalisation is no part of the way down, as the paper has it."""

    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.norms = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ModuleList([norm])

    def forward(self, x, relu=F.relu, pass_signals=False):
        maps = relu(self.first(x))
        maps = maps + (self.norms[0](maps) - maps).detach() if pass_signals else self.norms[0](maps)
        return relu(self.second(maps))


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, signal):
        return signal.clamp(min=0)


RECOGNISED = {
    "poolings": (ByPooling(), LRNConstants(5, 0.5, 0.75, 1.0)),
    "other constants": (ByPooling(3, 0.02, 0.5, 2.0), LRNConstants(3, 0.02, 0.5, 2.0)),
    "map by map": (ByMaps(), LRNConstants(3, 0.75, 0.5, 2.0)),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_its_constants_are_found(name):
    module, constants = RECOGNISED[name]
    assert lrn_constants(module) == constants


OTHERS = {
    "within a map": ByPooling(across_maps=False),
    "over all maps": Written(lambda x: x / (1 + x.square().mean(1, keepdim=True)).sqrt()),
    "the identity": Written(lambda x: x),
    "with a ReLU": Written(lambda x: F.local_response_norm(x.relu(), 5)),
    "a softsign": Written(F.softsign),
    "of another shape": Written(lambda x: F.local_response_norm(x, 5).mean(dim=(2, 3))),
    "of maps of one size": Written(lambda x: F.local_response_norm(F.adaptive_avg_pool2d(x, 3), 5)),
    "cut off": Written(lambda x: F.local_response_norm(x.detach(), 5)),
    "one that fails": Written(lambda x: x.nothing),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_taken_for_it(name):
    module = Net(OTHERS[name])
    assert wrap_lookalikes(module) == (module, [])


@pytest.mark.parametrize(
    "norm", [ByPooling(), ByMaps(), nn.CrossMapLRN2d(5, 0.5, 0.75, 2.0)], ids=lambda m: type(m).__name__
)
def test_projections_pass_it_unchanged_and_its_values_are_its_own(norm):
    module = Net(norm).double().eval()
    x = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    with pytest.warns(DeconvnetWarning, match=r"norms\.0 of network computes local response normalisation"):
        network = Network(module, torchvision_preprocessing(SIZE, SIZE))
    assert module.norms[0] is norm
    last = list(network.layers)[-1]
    with torch.no_grad():
        assert torch.allclose(network.activations(x, last), module(x), rtol=1e-12)
    pixels = x.clone().requires_grad_()
    maps = module(pixels, _Relu.apply, pass_signals=True)
    row, column = divmod(int(maps[0, 3].argmax()), maps.shape[3])
    signal = torch.zeros_like(maps)
    signal[0, 3, row, column] = maps[0, 3, row, column].detach()
    (expected,) = torch.autograd.grad(maps, pixels, signal)
    got = project_batch(network, x, last, torch.tensor([3]))
    assert expected.any()
    assert torch.allclose(got.pixels, expected, rtol=1e-9, atol=1e-13)


def test_what_is_shared_with_the_module_stays_shared():
    module = Net(ByPooling())
    wrapped, paths = wrap_lookalikes(module)
    assert paths == ["norms.0"]
    assert wrapped.first is module.first
    assert type(wrapped) is Net
    assert wrapped.state_dict().keys() == module.state_dict().keys()
    module.register_buffer("late", torch.ones(1))
    assert wrapped.late is module.late
    assert wrap_lookalikes(wrapped) == (wrapped, [])
