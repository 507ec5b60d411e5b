"""A cone against whole images: the same values and the same gradients, wherever the activation stands."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions
from deconvnet.projection.rules import DECONVNET
from deconvnet.tracing import (
    CroppedForward,
    TraceMismatch,
    cone,
    paste,
    run_intercepted,
    trace,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # only that it costs a copy


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Steps(nn.Module):
    """Runs functions one after the other, with a ReLU after each."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def forward(self, x):
        for step in self.steps:
            x = F.relu(step(x))
        return x


def weights(x, kernel, units, groups=1):
    """The same random filters at every call."""
    return torch.randn(units, x.shape[1] // groups, *kernel, generator=torch.Generator().manual_seed(1), dtype=x.dtype) + 0.1


def conv(kernel=(3, 3), units=4, **options):
    return lambda x: F.conv2d(x, weights(x, kernel, units, options.get("groups", 1)), **options)


def residual(kernel):
    return lambda x: x + F.conv2d(F.relu(x, inplace=False), weights(x, kernel, x.shape[1]), padding="same")


def inception(first, second):
    def step(x):
        pooled = F.max_pool2d(x, 3, 1, 1, ceil_mode=True)
        return torch.cat([F.relu(conv(first, padding="same")(x)), conv(second, padding="same")(pooled), pooled], dim=1)

    return step


def halves(x):
    """As in ShuffleNet: one half of the channels goes on, the other is transformed."""
    kept, changed = x.chunk(2, dim=1)
    return torch.cat([kept, F.relu(conv((3, 3), changed.shape[1], padding=1)(changed))], dim=1)


def normalise(x):
    mean, variance = (torch.full((x.shape[1],), value, dtype=torch.float64) for value in (0.1, 0.8))
    return F.local_response_norm(F.batch_norm(x, mean, variance), 3, alpha=0.5)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


POOLS = st.builds(
    lambda kernel, stride, share, dilation, ceil: (
        lambda x: F.max_pool2d(x, kernel, stride, tuple(int(k * share / 2) for k in kernel), dilation, ceil)
    ),
    pairs(1, 4),
    pairs(1, 3),
    st.floats(0, 1),
    pairs(1, 2),
    st.booleans(),
)
STEPS = st.one_of(
    st.builds(
        lambda k, s, p, d: conv(k, stride=s, padding=p, dilation=d), pairs(1, 4), pairs(1, 3), pairs(0, 3), pairs(1, 2)
    ),
    POOLS,
    st.builds(
        lambda k, s, p: lambda x: F.avg_pool2d(x, k, s, tuple(min(p, n // 2) for n in k)),
        pairs(1, 3),
        pairs(1, 2),
        st.integers(0, 1),
    ),
    st.builds(residual, pairs(1, 3)),
    st.builds(inception, pairs(1, 3), pairs(1, 3)),
    st.builds(lambda p: lambda x: F.pad(x, p, value=0.5), st.tuples(*[st.integers(0, 3)] * 4)),
    st.just(normalise),
)


def places(rows, columns):
    found = {(r, c) for r in (0, 1, rows // 2, rows - 1) for c in (0, 1, columns // 2, columns - 1)}
    return torch.tensor(sorted((r, c) for r, c in found if r < rows and c < columns))


def run(module, x, layer, positions, rules, cut=None):
    """The activations of `layer` at `positions`, one for each input, and what their weighted sums send down."""
    x = x.clone().requires_grad_()
    seen = []
    run_intercepted(module, x.clone(), lambda index, maps: index == layer and not seen.append(maps), rules, cut)
    at = torch.zeros_like(positions) if cut else positions
    values = seen[0][torch.arange(len(x)), :, at[:, 0], at[:, 1]]
    mixed = values * torch.linspace(1, 2, values.shape[1], dtype=values.dtype)
    (gradient,) = torch.autograd.grad(mixed.sum(), x)
    return values.detach(), gradient


def check(module, x, tolerance=1e-10, rules=None, every=1, some=places):
    """Compare every so many layers at some places; returns how many layers were compared."""
    found = trace(module, x[:1])
    chosen = [layer for layer in found.layers if layer.convolutional][::-every]
    for layer in chosen:
        narrow = cone(found, layer.index)
        positions = some(*layer.map_size)
        each = x[:1].expand(len(positions), -1, -1, -1)
        want, want_gradient = run(module, each, layer.index, positions, rules)
        cut = CroppedForward(narrow, positions)
        got, windows = run(module, cut.window(each), layer.index, positions, rules, cut)
        gradient = windows.new_zeros(*windows.shape[:2], *x.shape[2:])
        paste(gradient, windows, cut.starts)
        assert (got - want).abs().max() <= tolerance * want.abs().max(), layer.name
        assert (gradient - want_gradient).abs().max() <= tolerance * want_gradient.abs().max(), layer.name
    return len(chosen)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, min_size=1, max_size=4), pairs(9, 24))
def test_random_networks_of_windows_sums_and_concatenations(steps, size):
    torch.manual_seed(0)
    try:
        check(Steps(*steps), torch.randn(1, 3, *size, dtype=torch.float64))
    except RuntimeError as error:
        if "too small" in str(error) or "can't be greater than actual input size" in str(error):
            reject()  # windows larger than what is left of the maps
        raise


def random_module(build, **options):
    torch.manual_seed(0)
    module = build(**options).double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return module


models = torchvision.models
#: How to make one, the size of its input, how many layers are passed over, and how many are left.
KNOWN = {
    "alexnet2012": (lambda: AlexNet2012(AlexNetOptions(classes=0)), 131, 2, 3),
    "zfnet": (lambda: ZFNet(ZFNetOptions(classes=0)), 96, 2, 3),
    "vgg11": (lambda: models.vgg11(num_classes=2).features, 64, 4, 2),
    "resnet18": (models.resnet18, 64, 6, 3),
    "googlenet": (lambda: models.googlenet(aux_logits=False, init_weights=False), 64, 20, 3),
    "squeezenet": (models.squeezenet1_1, 64, 9, 3),
    "mobilenet_v2": (models.mobilenet_v2, 64, 12, 3),
    "densenet": (lambda: models.DenseNet(8, (2, 2), 8), 48, 4, 3),
}


def corners(rows, columns):
    return torch.tensor([(0, 0), (rows - 1, 0), (rows // 2, columns - 1), (rows // 2, columns // 2)])


@pytest.mark.parametrize("name", KNOWN)
def test_well_known_networks(name):
    build, size, every, layers = KNOWN[name]
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    assert check(random_module(build), x, every=every, some=corners) == layers


def test_channels_split_joined_and_shuffled():
    def shuffle(x):
        return x.view(len(x), 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)

    assert check(Steps(conv(padding=1), halves, shuffle, conv()), torch.randn(1, 3, 11, 9, dtype=torch.float64)) == 5
    module = random_module(models.shufflenet_v2_x0_5)
    assert check(module, torch.randn(1, 3, 64, 64, dtype=torch.float64), every=18, some=corners) == 3


def test_a_change_in_place_of_what_others_see_is_not_cut_out():
    def part(x):
        x[:, :2].relu_()
        return x

    def whole(x):
        kept = x[:, :2]
        x.relu_()
        return kept

    def before(x):
        x += conv((3, 3), 4, padding=1)(x)  # whose convolution needs more of x than its sum
        return x

    for step in (part, whole, before):
        found = trace(Steps(conv(), step), torch.randn(1, 3, 12, 12))
        assert cone(found, 0) is not None
        assert cone(found, len(found.layers) - 1) is None


def test_statements_in_place_and_sums_in_place():
    def step(x):
        y = conv((3, 3), x.shape[1], padding=1)(x)
        y.relu_()
        y += x
        return y

    assert check(Steps(conv(), step, step), torch.randn(1, 3, 12, 12, dtype=torch.float64), rules=DECONVNET) == 5


CUT_OFF = {
    "fully connected": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 7), nn.ReLU()),
    "gate": Steps(lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()),
    "group normalisation": nn.Sequential(nn.GroupNorm(1, 3), nn.ReLU()),
    "upsampling": nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU()),
    "a constant with places": Steps(lambda x: x * torch.rand(12, 12)),
    "quotient": Steps(lambda x: x / x.abs()),
    "average that leaves out the padding": Steps(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    "reflection": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
    "unlike grids": Steps(lambda x: conv((2, 2), stride=2)(x) + conv((7, 7))(x)),
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_what_cannot_be_cut_out_has_no_cone(name):
    found = trace(CUT_OFF[name], torch.rand(1, 3, 12, 12))
    assert cone(found, len(found.layers) - 1) is None


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_among_equals_the_same_switch_is_chosen(value):
    """In flat parts of an image all windows of a pooling hold equal values."""
    module = random_module(lambda: models.alexnet().features)
    for part in module.parameters():
        part.data = (part.data * 16).round() / 16  # all sums are exact, so what is equal is equal to the bit
    x = torch.full((1, 3, 99, 99), value, dtype=torch.float64)
    x[:, :, 40:50, 40:50] = torch.randint(-2, 3, (3, 10, 10))
    check(module, x, tolerance=1e-13)
    check(module, x, tolerance=1e-13, rules=DECONVNET)


def test_the_share_is_that_of_the_multiplications():
    module = random_module(lambda: models.resnet18())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    found = trace(module, x[:1])
    layer = next(layer for layer in found.layers if layer.name == "layer2.0.relu#2")
    narrow = cone(found, layer.index)
    cut = CroppedForward(narrow, torch.tensor([[3, 3], [0, 7]]))

    def multiplications(pixels, cut=None):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run_intercepted(module, pixels, lambda index, _: index == layer.index, cut=cut)
        return counter.get_total_flops()

    assert multiplications(cut.window(x), cut) / multiplications(x) == pytest.approx(narrow.share)


def test_a_module_that_does_something_else_than_in_its_trace_is_noticed():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = True

        def forward(self, x):
            x = F.relu(conv()(x if self.first else x + 1))
            self.first = False
            return x

    module, x = Fickle(), torch.rand(1, 3, 9, 9)
    cut = CroppedForward(cone(trace(module, x), 0), torch.tensor([[1, 1]]))
    with pytest.raises(TraceMismatch):
        run_intercepted(module, cut.window(x), lambda *_: True, cut=cut)
