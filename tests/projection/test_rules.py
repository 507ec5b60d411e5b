"""The two changed rules, and what autograd's pooling already does as the paper says."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import NeuronDeconvolution
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvnet.networks import Network, torchvision_preprocessing
from deconvnet.projection import DECONVNET, project
from deconvnet.tracing import watch
from oracles.plain_deconvnet import Pool


def network_of(module, crop=16):
    return Network(module, torchvision_preprocessing(crop, crop))


def pulled_down(module, x, signal):
    """What arrives at x when `signal` is sent down from the module's last ReLU."""
    x = x.clone().requires_grad_()
    seen = []
    watch(module, x.clone(), lambda index, output: seen.append(output) or False, DECONVNET)
    return torch.autograd.grad(seen[-1], x, signal)[0]


def test_overlapping_windows_that_share_a_switch_add_up():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0  # the maximum of all four 3×3 windows
    down = pulled_down(nn.Sequential(nn.MaxPool2d(3, 2), nn.ReLU()), x, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    expected = torch.zeros(1, 1, 5, 5)
    expected[0, 0, 2, 2] = 10.0  # an overwriting unpooling gives 4
    assert torch.equal(down, expected)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(4, 11),
    width=st.integers(4, 11),
    kernel_and_stride=st.sampled_from([(2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 3)]),
    ceil=st.booleans(),
    levels=st.sampled_from([0, 3]),
    seed=st.integers(0, 10**6),
)
def test_unpooling_is_the_adjoint_of_pooling(height, width, kernel_and_stride, ceil, levels, seed):
    """<U y, v> = <y, P v> with the switches of x frozen: P picks v at the switches, U is what the projection does."""
    torch.manual_seed(seed)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    x = (x * levels).round() if levels else x  # few values: windows full of ties
    kernel, stride = kernel_and_stride
    pool = Pool(kernel, stride, ceil)
    pooled, plain = F.max_pool2d(x, kernel, stride, ceil_mode=ceil), pool.up(x)
    assert torch.equal(pooled, plain)
    y, v = torch.randn_like(pooled).abs(), torch.randn_like(x)
    picked = v.flatten(2).gather(2, pool.switches.flatten(2)).view_as(y)

    leaf = x.clone().requires_grad_()
    (down,) = torch.autograd.grad(F.max_pool2d(leaf, kernel, stride, ceil_mode=ceil), leaf, y)
    torch.testing.assert_close((down * v).sum(), (y * picked).sum())
    torch.testing.assert_close(down, pool.down(y))  # ties go to the first in row-major order


def test_the_signal_is_rectified_whatever_the_forward_relu_did():
    module = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False), nn.ReLU())
    module[1].weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    x = torch.tensor([-3.0, -5.0]).view(1, 2, 1, 1)  # both inactive in the forward pass
    down = pulled_down(module, x, torch.ones(1, 1, 1, 1))
    assert down.flatten().tolist() == [1.0, 0.0]  # a masked (guided) signal would be [0, 0], a gradient [0, 0]


def test_normalisation_lets_the_signal_pass_unchanged():
    norm = nn.LocalResponseNorm(3, alpha=1.0, k=1.0)
    x, signal = torch.rand(1, 4, 2, 2), torch.rand(1, 4, 2, 2)
    assert torch.equal(pulled_down(nn.Sequential(norm, nn.ReLU()), x, signal), signal)


def test_pixels_are_not_rectified():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    x = torch.randn(1, 3, 16, 16)
    down = project(network_of(module), x, layer="1", unit=0)
    assert (down < 0).any()
    assert (down > 0).any()


SPELLINGS = {
    "module": lambda y: nn.ReLU()(y),
    "in-place module": lambda y: nn.ReLU(inplace=True)(y),
    "functional": F.relu,
    "functional in place": lambda y: F.relu(y, inplace=True),
    "torch.relu": torch.relu,
    "method": lambda y: y.relu(),
    "statement": lambda y: (y.relu_(), y)[1],
    "functional statement": lambda y: (F.relu(y, inplace=True), y)[1],
    "clamp": lambda y: y.clamp(min=0),
    "clamp statement": lambda y: (y.clamp_(min=0), y)[1],
    "clamp_min": lambda y: torch.clamp_min(y, 0),
}


class TwoLayers(nn.Module):
    def __init__(self, rectify):
        super().__init__()
        self.first, self.second, self.rectify = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), rectify

    def forward(self, x):
        return self.rectify(self.second(self.rectify(self.first(x))))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_relu_project_alike(spelling):
    torch.manual_seed(1)
    plain = TwoLayers(F.relu).eval()
    other = TwoLayers(SPELLINGS[spelling]).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 16, 16)
    names = list(network_of(plain).layers), list(network_of(other).layers)
    for mine, theirs in zip(*names, strict=True):
        want = project(network_of(plain), x, layer=mine, unit=[0, 1, 2, 3])
        assert want.abs().sum() > 0
        assert torch.equal(project(network_of(other), x, layer=theirs, unit=[0, 1, 2, 3]), want)


def test_relu6_passes_signals_above_its_ceiling():
    module = nn.Sequential(nn.ReLU6(), nn.ReLU())
    x = torch.full((1, 1, 1, 1), 50.0)
    assert pulled_down(module, x, torch.full((1, 1, 1, 1), 9.0)).item() == 9.0


@pytest.mark.filterwarnings("ignore:Setting", "ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("index", [1, 4, 7, 9, 11])
def test_equal_to_captum_on_torchvisions_alexnet(index):
    module = torchvision.models.alexnet(weights=None).eval()
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum's hooks cannot see in-place ones
    network = Network(module, torchvision_preprocessing())
    layer = f"features.{index}"
    x = torch.randn(1, 3, 224, 224)
    for unit, (row, column) in ((0, (0, 0)), (5, (3, 12)), (11, (12, 6))):
        got = project(network, x, layer=layer, unit=unit, position=(row, column), start="one")
        want = NeuronDeconvolution(module, module.features[index]).attribute(x, (unit, row, column))
        alive = network.activations(x, layer)[0, unit, row, column] > 0
        want = want if alive else torch.zeros_like(want)
        assert (got - want).norm() <= 1e-6 * want.norm()  # a cone may round differently from a whole pass
