"""Receptive fields against their definition: the input pixels on which the gradient of one activation is not zero.

With positive weights and inputs every ReLU is the identity, so a network of convolutions, average poolings, sums and
concatenations is linear with positive coefficients, and no gradient can cancel.
"""

from contextlib import contextmanager
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions
from deconvnet.tracing import Box, ReceptiveField, run_intercepted, trace
from deconvnet.tracing.receptive_field import Axis
from helpers.rectified_steps import RectifiedSteps

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # only that it costs a copy
]


def ones(kernel, x, units=2):
    return torch.ones(units, x.shape[1], *kernel, dtype=x.dtype)


def conv(x, kernel, **options):
    return F.conv2d(x, ones(kernel, x), **options)


def residual(x, kernel):
    return x + F.conv2d(x, ones(kernel, x, x.shape[1]), padding="same")


def inception(x, first, second):
    return torch.cat([conv(x, first, padding="same"), conv(x, second, padding="same"), x], dim=1)


def bounding_box(gradient):
    """The smallest box that holds every pixel with a gradient; None if there is none."""
    rows, columns = ((gradient[0] != 0).any(dim=0).any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else None


def inside(small, large):
    return small[0] >= large[0] and small[1] >= large[1] and small[2] <= large[2] and small[3] <= large[3]


def intersection(a, b):
    return Box(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))


def some_positions(height, width):
    """The corners, the middle, and a position next to a corner."""
    return {
        (0, 0),
        (0, width - 1),
        (height - 1, 0),
        (height - 1, width - 1),
        (height // 2, width // 2),
        (min(1, height - 1), 0),
    }


def measured_fields(module, x):
    """By gradients, for each layer: (layer, the field of all its activations, {position: the field at that position})."""
    outputs = []
    x = x.clone().requires_grad_()
    run_intercepted(module, x, lambda _, output: outputs.append(output))

    def support(total):
        return bounding_box(torch.autograd.grad(total, x, retain_graph=True)[0])

    for layer, output in zip(trace(module, x.detach()).layers, outputs, strict=True):
        assert layer.map_size == tuple(output.shape[2:])
        fields = {(r, c): support(output[0, :, r, c].sum()) for r, c in some_positions(*layer.map_size)}
        yield layer, support(output.sum()), fields


def pairs(numbers):
    return st.tuples(numbers, numbers)


@st.composite
def windows(draw, tight):
    """A convolution's kernel, stride, padding and dilation; if `tight`, windows leave no pixel out."""
    kernel = draw(pairs(st.integers(1, 4)))
    if tight:
        stride, padding = (tuple(draw(st.integers(low, low + k - 1)) for k in kernel) for low in (1, 0))
        return partial(conv, kernel=kernel, stride=stride, padding=padding)
    stride, padding, dilation = (draw(pairs(st.integers(low, high))) for low, high in ((1, 4), (0, 3), (1, 3)))
    return partial(conv, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


@st.composite
def poolings(draw, tight):
    kernel = draw(pairs(st.integers(1, 4)))
    stride = tuple(draw(st.integers(1, k if tight else 4)) for k in kernel)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return partial(F.avg_pool2d, kernel_size=kernel, stride=stride, padding=padding, ceil_mode=draw(st.booleans()))


def networks(tight):
    residuals = st.builds(partial, st.just(residual), kernel=pairs(st.integers(1, 4)))
    inceptions = st.builds(partial, st.just(inception), first=pairs(st.integers(1, 4)), second=pairs(st.integers(1, 4)))
    return st.lists(st.one_of(windows(tight), poolings(tight), residuals, inceptions), min_size=1, max_size=4)


SIZES = pairs(st.integers(9, 24))


@contextmanager
def rejecting_empty_maps():
    """Skip networks with windows larger than their input maps."""
    try:
        yield
    except RuntimeError as error:
        if "too small" in str(error) or "can't be greater than actual input size" in str(error):
            reject()
        raise


def fields_of_steps(steps, size):
    with rejecting_empty_maps():
        return list(measured_fields(RectifiedSteps(*steps), torch.ones(1, 3, *size, dtype=torch.float64)))


@settings(deadline=None, max_examples=150)
@given(networks(tight=False), SIZES)
def test_an_activation_depends_on_nothing_outside_its_field_and_on_its_edges_inside_the_input(steps, size):
    for layer, _, fields in fields_of_steps(steps, size):
        for position, measured in fields.items():
            if measured is not None:
                assert inside(measured, layer.field.clipped_box(*position))
            if inside(layer.field.box(*position), (0, 0, size[1], size[0])):
                assert measured == layer.field.box(*position)


@settings(deadline=None, max_examples=150)
@given(networks(tight=True), SIZES)
def test_where_windows_overlap_an_activation_depends_exactly_on_its_clipped_field(steps, size):
    for layer, everything, fields in fields_of_steps(steps, size):
        for position, measured in fields.items():
            # No activation depends on pixels at the far end that no window reaches.
            assert measured == intersection(layer.field.clipped_box(*position), everything)


@settings(deadline=None, max_examples=30)
@given(st.lists(poolings(tight=False), min_size=1, max_size=3), SIZES)
def test_max_pooling_has_the_field_of_average_pooling(steps, size):
    x = torch.ones(1, 3, *size)
    maximum = [partial(F.max_pool2d, **step.keywords) for step in steps]
    with rejecting_empty_maps():
        assert trace(RectifiedSteps(*maximum), x).layers == trace(RectifiedSteps(*steps), x).layers


@settings(deadline=None, max_examples=15)
@given(pairs(st.integers(2, 3)), pairs(st.integers(1, 3)), pairs(st.integers(1, 3)), st.booleans(), SIZES)
def test_dilated_max_pooling_depends_on_nothing_outside_its_field(kernel, stride, dilation, ceil_mode, size):
    pool = nn.MaxPool2d(kernel, stride, 1, dilation, ceil_mode=ceil_mode)
    for layer, _, fields in measured_fields(RectifiedSteps(partial(conv, kernel=(2, 2)), pool), torch.rand(1, 3, *size)):
        for position, measured in fields.items():
            assert inside(measured, layer.field.clipped_box(*position))


@pytest.mark.parametrize(
    ("module", "crop"),
    [(AlexNet2012(AlexNetOptions(classes=0)), 227), (ZFNet(ZFNetOptions(classes=0)), 224)],
    ids=["2012", "zf"],
)
def test_the_two_networks_depend_exactly_on_their_clipped_fields(module, crop):
    for submodule in module.parameters():
        nn.init.constant_(submodule, 0.01)
    module.pool = nn.AvgPool2d(3, stride=2, ceil_mode=True)
    for layer, everything, fields in measured_fields(module, torch.ones(1, 3, crop, crop)):
        for position, measured in fields.items():
            assert measured == intersection(layer.field.clipped_box(*position), everything), layer.name


@pytest.mark.parametrize(
    ("build", "size"),
    [(torchvision.models.vgg16, 196), (torchvision.models.resnet18, 435), (torchvision.models.mobilenet_v2, 491)],
)
def test_well_known_networks_have_their_well_known_fields(build, size):
    with torch.device("meta"):
        layers = trace(build(), torch.zeros(1, 3, 224, 224)).layers
    assert [layer for layer in layers if layer.convolutional][-1].field.size == (size, size)


# Operations that mix positions all over their input.
MIXING = {
    "flatten and linear": nn.Sequential(nn.Flatten(), nn.Linear(300, 4), nn.ReLU()),
    "global average": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.ReLU()),
    "global maximum": nn.Sequential(nn.AdaptiveMaxPool2d((1, 1)), nn.ReLU()),
    "mean": RectifiedSteps(lambda x: x.mean(dim=(2, 3), keepdim=True)),
    "gate": RectifiedSteps(lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()),
    "gate by a convolution": RectifiedSteps(lambda x: x * F.conv2d(x, ones((10, 10), x, 3))),
    "softmax over positions": RectifiedSteps(lambda x: x.flatten(2).softmax(dim=2).view_as(x)),
    "instance normalisation": nn.Sequential(nn.InstanceNorm2d(3), nn.ReLU()),
    "group normalisation": nn.Sequential(nn.GroupNorm(1, 3), nn.ReLU()),
    "transpose": RectifiedSteps(lambda x: x.transpose(2, 3)),
    "permutation": RectifiedSteps(lambda x: x.permute(0, 1, 3, 2)),
}


@pytest.mark.parametrize("name", MIXING)
def test_an_operation_that_mixes_positions_makes_the_field_the_whole_image(name):
    layer = trace(MIXING[name], torch.rand(1, 3, 10, 10)).layers[-1]
    assert layer.field.size == (10, 10)
    rows, columns = layer.map_size
    assert {layer.field.clipped_box(r, c) for r in range(rows) for c in range(columns)} == {Box(0, 0, 10, 10)}


def test_the_field_behind_the_whole_image_is_the_whole_image():
    mixed = RectifiedSteps(lambda x: x - x.mean(dim=(2, 3), keepdim=True))
    module = nn.Sequential(mixed, nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReflectionPad2d(1), nn.MaxPool2d(2), nn.ReLU())
    layer = trace(module, torch.rand(1, 3, 16, 20)).layers[-1]
    assert {layer.field.box(r, c) for r in range(5) for c in range(6)} == {Box(0, 0, 20, 16)}


def adaptive(x):
    return F.adaptive_avg_pool2d(x, (4, None))


@pytest.mark.parametrize(
    ("step", "kernel", "stride", "padding"),
    [
        (adaptive, (3, 1), (3, 1), (0, 0)),
        (nn.AdaptiveMaxPool2d(2, return_indices=False), (6, 4), (6, 4), (0, 0)),
        (lambda x: F.adaptive_max_pool2d(x, (2, 2), return_indices=True)[0], (6, 4), (6, 4), (0, 0)),
        (lambda x: F.max_pool2d(x, 3), (3, 3), (3, 3), (0, 0)),
        (lambda x: F.max_pool2d(x, [2, 3], [1, 2], padding=1), (2, 3), (1, 2), (1, 1)),
        (lambda x: F.max_pool2d(x, 3, 2, return_indices=True)[0], (3, 3), (2, 2), (0, 0)),
        (lambda x: torch.max_pool2d(x, (3, 3), (2, 2)), (3, 3), (2, 2), (0, 0)),
        (lambda x: F.avg_pool2d(input=x, kernel_size=3, padding=1), (3, 3), (3, 3), (1, 1)),
        (nn.Conv2d(3, 4, (4, 5), padding="same"), (4, 5), (1, 1), (1, 2)),
        (nn.Conv2d(3, 4, 3, padding="valid"), (3, 3), (1, 1), (0, 0)),
        (nn.Conv2d(3, 3, 3, stride=2, groups=3), (3, 3), (2, 2), (0, 0)),
        (nn.ZeroPad2d((1, 2, 3, 4)), (1, 1), (1, 1), (3, 1)),
        (lambda x: F.pad(x, (-2, 0, 1, 0, 1, 1), value=3), (1, 1), (1, 1), (1, -2)),
        (lambda x: F.conv2d(weight=torch.ones(2, 3, 3, 3), input=x, stride=2), (3, 3), (2, 2), (0, 0)),
        (lambda x: x[:, :, 1:-1], (1, 1), (1, 1), (-1, 0)),
        (lambda x: x[..., 2:], (1, 1), (1, 1), (0, -2)),
        (lambda x: x[:, ..., -5:-2, 1::3], (1, 1), (1, 3), (-7, -1)),
        (lambda x: x.narrow(2, 1, 4), (1, 1), (1, 1), (-1, 0)),
        (lambda x: torch.narrow(x, dim=-1, start=-3, length=2), (1, 1), (1, 1), (0, -5)),
    ],
)
def test_every_spelling_of_a_sliding_window_is_recognised(step, kernel, stride, padding):
    layer = trace(RectifiedSteps(step), torch.rand(1, 3, 12, 8)).layers[0]
    assert layer.field.rows == Axis(stride[0], kernel[0], -padding[0])
    assert layer.field.columns == Axis(stride[1], kernel[1], -padding[1])


POINTWISE = {
    "batch normalisation": nn.BatchNorm2d(3).eval(),
    "local response normalisation": nn.LocalResponseNorm(5),
    "dropout": nn.Dropout(),
    "scale and shift": lambda x: (2 * x - 1) / 3,
    "in-place sum": lambda x: x.clone().mul_(2).add_(x),
    "concatenation": lambda x: torch.cat((x, x), dim=-3),
    "halves": lambda x: x.chunk(2, dim=1)[1],
    "one channel after the other": lambda x: torch.cat([x[:, 0].unsqueeze(1) * 2, x[:, 1:]], dim=1),
    "channel shuffle": lambda x: x.view(1, 1, 3, 6, 6).transpose(1, 2).reshape(1, 3, 6, 6),
    "channels in another order": lambda x: x.permute(1, 0, 2, 3).permute(1, 0, 2, 3),
    "quotient": lambda x: x / (1 + x.abs()),
    "maximum of two": lambda x: torch.maximum(x, -x),
    "half precision": lambda x: x.half().float(),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_operations_keep_the_field(name):
    module = RectifiedSteps(nn.Conv2d(3, 3, 3, stride=2, padding=1), POINTWISE[name])
    before, after = trace(module, torch.rand(1, 3, 12, 12)).layers
    assert after.field == before.field
    assert after.field.rows == Axis(2, 3, -1)


FIELD = ReceptiveField(Axis(4, 11, -2), Axis(2, 5, -1), height=40, width=30)


def test_a_box_may_extend_beyond_the_image():
    assert FIELD.size == (11, 5)
    assert FIELD.box(0, 0) == Box(left=-1, top=-2, right=4, bottom=9)
    assert FIELD.box(3, 7) == Box(left=13, top=10, right=18, bottom=21)
    assert FIELD.box(9, 14) == Box(left=27, top=34, right=32, bottom=45)


def test_a_clipped_box_ends_at_the_border():
    assert FIELD.clipped_box(0, 0) == Box(0, 0, 4, 9)
    assert FIELD.clipped_box(3, 7) == FIELD.box(3, 7)
    assert FIELD.clipped_box(9, 14) == Box(27, 34, 30, 40)


def test_a_patch_box_is_moved_inside_and_keeps_its_size():
    assert FIELD.patch_box(0, 0) == Box(0, 0, 5, 11)
    assert FIELD.patch_box(3, 7) == FIELD.box(3, 7)
    assert FIELD.patch_box(9, 14) == Box(25, 29, 30, 40)


def test_a_patch_box_is_no_larger_than_the_image():
    field = ReceptiveField(Axis(16, 99, -40), Axis(16, 99, -40), height=64, width=120)
    assert field.patch_size == (64, 99)
    assert field.patch_box(0, 0) == Box(0, 0, 99, 64)
    assert field.patch_box(3, 7) == Box(21, 0, 120, 64)


def test_the_whole_field_is_the_image_for_every_activation():
    field = ReceptiveField.whole_input(40, 30)
    assert field.box(0, 0) == field.clipped_box(5, 5) == field.patch_box(9, 9) == Box(0, 0, 30, 40)


def test_the_union_of_fields_with_one_jump_bounds_both():
    narrow, wide = Axis(2, 3, -1), Axis(2, 9, -3)
    assert narrow.union(wide, 100) == wide.union(narrow, 100) == Axis(2, 9, -3)
    assert Axis(2, 3, -1).union(Axis(2, 3, 5), 100) == Axis(2, 9, -1)


def test_the_union_of_fields_with_different_jumps_is_the_whole_image():
    assert Axis(2, 3, -1).union(Axis(4, 3, -1), 100) == Axis(0, 100, 0)
