"""Each rule by itself: the paper's two, pooling (where autograd does what the paper says), and other methods' rules."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network
from deconvnet.projection import RULES, project, project_batch
from deconvnet.tracing import run_intercepted
from oracles.plain_deconvnet import OverwritingPool, Pool, written_one_by_one


def network_of(module, crop=16):
    return Network(module, torchvision_preprocessing(crop, crop))


def send_down(module, x, signal, rules="deconvnet"):
    """What arrives at x when `signal` is sent down from the module's last ReLU."""
    x = x.clone().requires_grad_()
    captured = []
    run_intercepted(module, x.clone(), lambda index, output: captured.append(output) or False, RULES[rules])
    return torch.autograd.grad(captured[-1], x, signal)[0]


@pytest.mark.parametrize(("rules", "arrives"), [("deconvnet", 10.0), ("overwrite", 4.0)])
def test_overlapping_windows_that_share_a_switch_add_up_unless_overwritten(rules, arrives):
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0  # the maximum of all four 3×3 windows
    signal = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    down = send_down(nn.Sequential(nn.MaxPool2d(3, 2), nn.ReLU()), x, signal, rules)
    expected = torch.zeros(1, 1, 5, 5)
    expected[0, 0, 2, 2] = arrives
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

    # Overwriting is no adjoint as soon as windows share a switch.
    over = send_down(nn.Sequential(nn.MaxPool2d(kernel, stride, ceil_mode=ceil), nn.ReLU()), x, y, "overwrite")
    assert torch.equal(over, OverwritingPool(**vars(pool)).down(y))
    shared = any(len(set(switches)) < len(switches) for switches in pool.switches.flatten(2).flatten(0, 1).tolist())
    assert torch.isclose((over * v).sum(), (y * picked).sum(), rtol=1e-9) == (not shared)


#: Ways to pool, each with the arguments of the `_with_indices` function that does the same.
POOLINGS = {
    "padding": (lambda x: F.max_pool2d(x, 3, 2, padding=1), (3, 2, 1)),
    "dilation": (lambda x: F.max_pool2d(x, 3, 1, dilation=2), (3, 1, 0, 2)),
    "ceil": (lambda x: nn.MaxPool2d(3, 2, ceil_mode=True)(x), (3, 2, 0, 1, True)),
    "oblong": (lambda x: nn.MaxPool2d((2, 4), (1, 2), (1, 0))(x), ((2, 4), (1, 2), (1, 0))),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 3, 2), (3, 2)),
    "keywords": (lambda x: torch.max_pool2d(input=x, kernel_size=3, stride=2), (3, 2)),
    "switches kept": (lambda x: nn.MaxPool2d(3, 2, return_indices=True)(x), (3, 2)),
    "with_indices": (lambda x: F.max_pool2d_with_indices(x, 3, 2), (3, 2)),
    "adaptive": (lambda x: F.adaptive_max_pool2d(x, (4, 5)), ((4, 5),)),  # windows of different sizes overlap
    "adaptive, switches kept": (lambda x: nn.AdaptiveMaxPool2d((4, None), return_indices=True)(x), ((4, 14),)),
}


class Pooling(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        self.pooled = self.pool(x)
        return F.relu(self.pooled[0] if isinstance(self.pooled, tuple) else self.pooled)


@pytest.mark.parametrize("spelling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_spellings_of_max_pooling_are_overwritten(spelling, dtype):
    pool, arguments = POOLINGS[spelling]
    with_switches = F.adaptive_max_pool2d_with_indices if "adaptive" in spelling else F.max_pool2d_with_indices
    x = torch.rand(2, 3, 11, 14, dtype=dtype)
    output, switches = with_switches(x, *arguments)
    signal = torch.rand_like(output)
    want = written_one_by_one(switches, signal, x.shape)
    module = Pooling(pool)
    assert not torch.allclose(send_down(module, x, signal), want)  # some windows share a switch
    assert torch.equal(send_down(module, x, signal, "overwrite"), want)
    if "switches kept" in spelling or spelling == "with_indices":
        pooled, kept_switches = module.pooled
        assert torch.equal(kept_switches, switches)
    else:
        pooled = module.pooled
    assert torch.equal(pooled, output)


def test_the_signal_is_rectified_wherever_the_forward_relu_was_active():
    module = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False), nn.ReLU())
    module[1].weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    x = torch.tensor([-3.0, -5.0]).view(1, 2, 1, 1)  # both inactive in the forward pass
    down = send_down(module, x, torch.ones(1, 1, 1, 1))
    assert down.flatten().tolist() == [1.0, 0.0]  # a masked (guided) signal would be [0, 0], a gradient [0, 0]


@pytest.mark.parametrize(
    ("rules", "arrives"),
    [("deconvnet", [5.0, 0.0, 7.0, 0.0]), ("guided", [5.0, 0.0, 0.0, 0.0]), ("gradient", [5.0, -6.0, 0.0, 0.0])],
)
@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU6()])
def test_what_passes_a_relu(rules, arrives, relu):
    """The signal where it is positive, where the ReLU was active, or both."""
    x = torch.tensor([2.0, 2.0, -2.0, -2.0]).view(1, 4, 1, 1)

    class Negated(nn.Module):
        """Negates every other signal on the way down."""

        def forward(self, x):
            return F.relu(relu(x) * torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1, 1) + 9)

    assert send_down(Negated(), x, torch.tensor([5.0, 6.0, 7.0, 8.0]).view(1, 4, 1, 1), rules).flatten().tolist() == arrives


@pytest.mark.parametrize("rules", RULES)
def test_normalisation_lets_the_signal_pass_unchanged_or_is_differentiated(rules):
    norm = nn.LocalResponseNorm(3, alpha=1.0, k=1.0)
    x, signal = torch.rand(1, 4, 2, 2), torch.rand(1, 4, 2, 2)
    leaf = x.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(norm(leaf), leaf, signal)
    want = signal if rules in ("deconvnet", "overwrite") else derivative
    assert torch.allclose(send_down(nn.Sequential(norm, nn.ReLU()), x, signal, rules), want, rtol=1e-5, atol=1e-6)


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
@pytest.mark.parametrize("rules", RULES)
def test_all_spellings_of_relu_project_the_same(spelling, rules):
    torch.manual_seed(1)
    plain = TwoLayers(F.relu).eval()
    respelt = TwoLayers(SPELLINGS[spelling]).eval()
    respelt.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 16, 16)
    names = list(network_of(plain).layers), list(network_of(respelt).layers)
    for name, respelt_name in zip(*names, strict=True):
        want = project(network_of(plain), x, layer=name, unit=[0, 1, 2, 3], rules=rules)
        assert want.abs().sum() > 0
        assert torch.equal(project(network_of(respelt), x, layer=respelt_name, unit=[0, 1, 2, 3], rules=rules), want)


@pytest.mark.parametrize(("rules", "arrives"), [("deconvnet", 9.0), ("guided", 0.0), ("gradient", 0.0)])
def test_relu6_passes_signals_above_its_ceiling_unless_masked(rules, arrives):
    module = nn.Sequential(nn.ReLU6(), nn.ReLU())
    x = torch.full((1, 1, 1, 1), 50.0)
    assert send_down(module, x, torch.full((1, 1, 1, 1), 9.0), rules).item() == arrives


def without_in_place(module):
    """The module without in-place ReLUs, which captum's hooks do not support."""
    for submodule in module.modules():
        if isinstance(submodule, nn.ReLU):
            submodule.inplace = False
    return module.eval()


@pytest.fixture(scope="module")
def alexnet():
    """AlexNet of torchvision with random weights, without its fully connected layers, which take most of its time."""
    torch.manual_seed(0)
    module = without_in_place(torchvision.models.alexnet(weights=None))
    module.classifier = nn.Identity()
    return module


@pytest.mark.filterwarnings("ignore:Setting", "ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize(
    ("rules", "captum_method"),
    [("deconvnet", NeuronDeconvolution), ("guided", NeuronGuidedBackprop), ("gradient", NeuronGradient)],
)
@pytest.mark.parametrize("index", [1, 4, 7, 9, 11])
def test_equal_to_captum_on_torchvisions_alexnet(alexnet, index, rules, captum_method):
    network = Network(alexnet, torchvision_preprocessing())
    layer = f"features.{index}"
    x = torch.randn(1, 3, 224, 224)
    for unit, (row, column) in ((0, (0, 0)), (5, (3, 12)), (11, (12, 6))):
        got = project(network, x, layer=layer, unit=unit, position=(row, column), start="one", rules=rules)
        want = captum_method(alexnet, alexnet.features[index]).attribute(x, (unit, row, column))
        alive = network.activations(x, layer)[0, unit, row, column] > 0
        want = want if alive else torch.zeros_like(want)
        assert (got - want).norm() <= 1e-6 * want.norm()  # a cropped pass may round differently from a full one
        full = project_batch(
            network, x, layer, torch.tensor([unit]), torch.tensor([[row, column]]), "one", rules, allow_cropping=False
        )
        assert (full.pixels - want).norm() <= 1e-6 * want.norm()


@pytest.mark.filterwarnings("ignore:Setting", "ignore:Input Tensor 0 did not already require gradients")
def test_captums_deconvolution_differentiates_normalisation():
    norm, pool = nn.LocalResponseNorm(5, alpha=1.0), nn.MaxPool2d(3, 2)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), norm, pool, nn.Conv2d(8, 4, 3), nn.ReLU())
    x = torch.randn(1, 3, 16, 16)
    unit = int(module(x)[0, :, 2, 2].argmax())
    want = NeuronDeconvolution(module, module[5]).attribute(x, (unit, 2, 2))
    target = {"layer": "5", "unit": unit, "position": (2, 2), "start": "one"}
    got = {name: project(network_of(module), x, rules=name, **target).as_subclass(torch.Tensor) for name in RULES}
    assert want.abs().sum() > 0
    assert torch.allclose(got["differentiated-norm"], want, rtol=1e-6, atol=1e-6 * float(want.abs().max()))
    assert not torch.allclose(got["deconvnet"], want)
