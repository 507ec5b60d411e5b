"""A cropped forward pass against full images: the same values and the same gradients, at any position."""

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
from deconvnet.tracing import CroppedForward, TraceMismatch, paste, plan_crop, run_intercepted, trace
from helpers.rectified_steps import RectifiedSteps

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # only that it costs a copy
]


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


def half_residual(x):
    """As in ShuffleNet: one half of the channels is kept, the other is transformed."""
    kept, changed = x.chunk(2, dim=1)
    return torch.cat([kept, F.relu(conv((3, 3), changed.shape[1], padding=1)(changed))], dim=1)


def normalise(x):
    mean, variance = (torch.full((x.shape[1],), value, dtype=torch.float64) for value in (0.1, 0.8))
    return F.local_response_norm(F.batch_norm(x, mean, variance), 3, alpha=0.5)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


POOLS = st.builds(
    lambda kernel, stride, padding, dilation, ceil: (
        lambda x: F.max_pool2d(x, kernel, stride, tuple(int(k * padding / 2) for k in kernel), dilation, ceil)
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


def border_and_middle(rows, columns):
    positions = {(r, c) for r in (0, 1, rows // 2, rows - 1) for c in (0, 1, columns // 2, columns - 1)}
    return torch.tensor(sorted((r, c) for r, c in positions if r < rows and c < columns))


def run(module, x, layer_index, positions, rules, cropped=None):
    """The activations of a layer at `positions`, one for each input, and the gradients of their weighted sums."""
    x = x.clone().requires_grad_()
    captured = []
    run_intercepted(
        module, x.clone(), lambda index, maps: index == layer_index and not captured.append(maps), rules, cropped
    )
    rows, columns = (torch.zeros_like(positions) if cropped else positions).unbind(dim=1)
    values = captured[0][torch.arange(len(x)), :, rows, columns]
    weighted = values * torch.linspace(1, 2, values.shape[1], dtype=values.dtype)
    (gradient,) = torch.autograd.grad(weighted.sum(), x)
    return values.detach(), gradient


def check(module, x, tolerance=1e-10, rules=None, every=1, positions_of=border_and_middle):
    """Compare every `every`-th layer, from the last, at some positions; returns how many layers were compared."""
    traced = trace(module, x[:1])
    layers = [layer for layer in traced.layers if layer.convolutional][::-every]
    for layer in layers:
        positions = positions_of(*layer.map_size)
        inputs = x[:1].expand(len(positions), -1, -1, -1)
        expected, expected_gradient = run(module, inputs, layer.index, positions, rules)
        cropped = CroppedForward(plan_crop(traced, layer.index), positions)
        actual, crops = run(module, cropped.crop_input(inputs), layer.index, positions, rules, cropped)
        gradient = crops.new_zeros(*crops.shape[:2], *x.shape[2:])
        paste(gradient, crops, cropped.corners)
        assert (actual - expected).abs().max() <= tolerance * expected.abs().max(), layer.name
        assert (gradient - expected_gradient).abs().max() <= tolerance * expected_gradient.abs().max(), layer.name
    return len(layers)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, min_size=1, max_size=4), pairs(9, 24))
def test_random_networks_of_windows_sums_and_concatenations(steps, size):
    torch.manual_seed(0)
    try:
        check(RectifiedSteps(*steps), torch.randn(1, 3, *size, dtype=torch.float64))
    except RuntimeError as error:
        if "too small" in str(error) or "can't be greater than actual input size" in str(error):
            reject()  # windows larger than what is left of the maps
        raise


def random_module(build, **options):
    torch.manual_seed(0)
    module = build(**options).double().eval()
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm2d):
            nn.init.uniform_(submodule.running_mean, -0.5, 0.5)
            nn.init.uniform_(submodule.running_var, 0.5, 2)
            nn.init.uniform_(submodule.weight, 0.5, 1.5)
            nn.init.normal_(submodule.bias, std=0.3)
        elif isinstance(submodule, nn.Conv2d):
            nn.init.kaiming_normal_(submodule.weight)
    return module


models = torchvision.models
#: How to build one, the size of its input, every how many layers is compared, and how many that are.
NETWORKS = {
    "alexnet2012": (lambda: AlexNet2012(AlexNetOptions(classes=0)), 131, 2, 3),
    "zfnet": (lambda: ZFNet(ZFNetOptions(classes=0)), 96, 2, 3),
    "vgg11": (lambda: models.vgg.make_layers([8, "M", 12, "M", 16, 16, "M", 24, 24, "M", 24, 24, "M"]), 64, 4, 2),
    "resnet12": (lambda: models.ResNet(models.resnet.BasicBlock, [2, 1, 1, 1]), 64, 4, 3),
    "googlenet": (lambda: models.googlenet(aux_logits=False, init_weights=False), 64, 20, 3),
    "squeezenet": (models.squeezenet1_1, 64, 9, 3),
    "mobilenet_v2": (lambda: models.mobilenet_v2(width_mult=0.25), 64, 12, 3),
    "densenet": (lambda: models.DenseNet(8, (2, 2), 8), 48, 4, 3),
}


def corners(rows, columns):
    return torch.tensor([(0, 0), (rows - 1, 0), (rows // 2, columns - 1), (rows // 2, columns // 2)])


@pytest.mark.parametrize("name", NETWORKS)
def test_well_known_networks(name):
    build, size, every, layers = NETWORKS[name]
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    assert check(random_module(build), x, every=every, positions_of=corners) == layers


def test_channels_split_concatenated_and_shuffled():
    def shuffle(x):
        return x.view(len(x), 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)

    steps = RectifiedSteps(conv(padding=1), half_residual, shuffle, conv())
    assert check(steps, torch.randn(1, 3, 11, 9, dtype=torch.float64)) == 5
    module = random_module(models.shufflenet_v2_x0_5)
    assert check(module, torch.randn(1, 3, 64, 64, dtype=torch.float64), every=18, positions_of=corners) == 3


def test_positions_picked():
    def crop(x):
        return x[:, :, 1:-2, 2:-1]

    def cropped_shortcut(x):
        return x[..., 1:-1, 1:-1] + conv((3, 3), x.shape[1])(x)

    steps = RectifiedSteps(conv(padding=1), crop, conv(padding=2), cropped_shortcut, lambda x: x[:, :, ::2, 1::2], conv())
    assert check(steps, torch.randn(1, 3, 23, 20, dtype=torch.float64)) == 6


def test_constants_without_positions_are_cropped():
    scale = torch.linspace(0.5, 2, 4, dtype=torch.float64).view(1, 4, 1, 1)
    steps = RectifiedSteps(conv(padding=1), lambda x: x * scale + torch.tensor(0.1), conv())
    assert check(steps, torch.randn(1, 3, 11, 9, dtype=torch.float64)) == 3


def test_in_place_changes_of_shared_memory_are_not_cropped():
    def change_view(x):
        x[:, :2].relu_()
        return x

    def change_base(x):
        view = x[:, :2]
        x.relu_()
        return view

    def add_in_place(x):
        x += conv((3, 3), 4, padding=1)(x)  # the convolution needs a larger region of x than the sum
        return x

    for step in (change_view, change_base, add_in_place):
        traced = trace(RectifiedSteps(conv(), step), torch.randn(1, 3, 12, 12))
        assert plan_crop(traced, 0) is not None
        assert plan_crop(traced, len(traced.layers) - 1) is None


def test_statements_in_place_and_sums_in_place():
    def step(x):
        y = conv((3, 3), x.shape[1], padding=1)(x)
        y.relu_()
        y += x
        return y

    assert check(RectifiedSteps(conv(), step, step), torch.randn(1, 3, 12, 12, dtype=torch.float64), rules=DECONVNET) == 5


UNCROPPABLE = {
    "fully connected": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 7), nn.ReLU()),
    "gate": RectifiedSteps(lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()),
    "group normalisation": nn.Sequential(nn.GroupNorm(1, 3), nn.ReLU()),
    "upsampling": nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU()),
    "a constant with positions": RectifiedSteps(lambda x: x * torch.rand(12, 12)),
    "quotient": RectifiedSteps(lambda x: x / x.abs()),
    "average that leaves out the padding": RectifiedSteps(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    "reflection": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
    "unlike grids": RectifiedSteps(lambda x: conv((2, 2), stride=2)(x) + conv((7, 7))(x)),
}


@pytest.mark.parametrize("name", UNCROPPABLE)
def test_uncroppable_operations_have_no_plan(name):
    traced = trace(UNCROPPABLE[name], torch.rand(1, 3, 12, 12))
    assert plan_crop(traced, len(traced.layers) - 1) is None


def narrow_alexnet():
    """The windows of AlexNet, with few maps."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(8, 12, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1), nn.ReLU()),
    )


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_ties_have_the_same_switch(value):
    """In flat parts of an image all windows of a pooling hold equal values."""
    module = random_module(narrow_alexnet)
    for submodule in module.parameters():
        submodule.data = (submodule.data * 16).round() / 16  # all sums are exact, so what is equal is equal to the bit
    x = torch.full((1, 3, 99, 99), value, dtype=torch.float64)
    x[:, :, 40:50, 40:50] = torch.randint(-2, 3, (3, 10, 10))
    check(module, x, tolerance=1e-13)
    check(module, x, tolerance=1e-13, rules=DECONVNET)


def test_the_cost_is_the_fraction_of_the_multiplications():
    module = random_module(lambda: models.resnet18())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    traced = trace(module, x[:1])
    layer = next(layer for layer in traced.layers if layer.name == "layer2.0.relu#2")
    plan = plan_crop(traced, layer.index)
    cropped = CroppedForward(plan, torch.tensor([[3, 3], [0, 7]]))

    def multiplications(pixels, cropped=None):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run_intercepted(module, pixels, lambda index, _: index == layer.index, partial=cropped)
        return counter.get_total_flops()

    assert multiplications(cropped.crop_input(x), cropped) / multiplications(x) == pytest.approx(plan.cost)


def test_a_module_that_deviates_from_its_trace_is_noticed():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = True

        def forward(self, x):
            x = F.relu(conv()(x if self.first else x + 1))
            self.first = False
            return x

    module, x = Fickle(), torch.rand(1, 3, 9, 9)
    cropped = CroppedForward(plan_crop(trace(module, x), 0), torch.tensor([[1, 1]]))
    with pytest.raises(TraceMismatch):
        run_intercepted(module, cropped.crop_input(x), lambda *_: True, partial=cropped)
