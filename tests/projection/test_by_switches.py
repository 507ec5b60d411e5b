"""Projections that read nothing of the photos but switches equal those of the whole backward pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network, load
from deconvnet.projection import batch as batch_module
from deconvnet.projection import by_switches, project_batch

SIZE = 40


class Blocks(nn.Module):
    """Most of what such networks are made of: two max poolings at different depths, one of them in a branch and with
    padding, dilation and ceil_mode; sums, also in place; concatenation; groups; batch and response normalisation.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.grouped, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(8)
        self.branch_pool = nn.MaxPool2d(3, 1, padding=1, dilation=2)
        self.last = nn.Conv2d(16, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.pool(F.local_response_norm(self.relu(self.first(x)), 3))
        y = self.norm(self.grouped(x))
        y += x
        y = torch.cat([self.relu(y), self.branch_pool(F.pad(x, (1, 1, 1, 1)))], dim=1)
        return self.relu(self.last(y))


class Chain(nn.Module):
    """Every way down passes the output of the one pooling, which is changed in place; or there is no pooling."""

    def __init__(self, pool):
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 8, 5, stride=2, padding=2), pool
        self.second, self.norm, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.pool(self.first(x)))
        y = self.norm(self.second(x))
        y += x
        return self.relu(self.last(self.relu(y)))


MODULES = {
    "pooling in a branch": Blocks,
    "pooling": lambda: Chain(nn.MaxPool2d(3, 2, padding=1)),
    "no pooling": lambda: Chain(nn.Identity()),
}


def network_of(name="pooling in a branch"):
    module = MODULES[name]().double().eval()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) / 3)
        module.norm.running_var.abs_().add_(0.5)
    return Network(module, torchvision_preprocessing(SIZE, SIZE))


@pytest.fixture
def paths(monkeypatch):
    """By which way projections went, in order."""
    taken = []

    def recording(way, original):
        def record(*arguments):
            projected = original(*arguments)
            taken.append(way)
            return projected

        return record

    for way in ("switches", "autograd"):
        name = f"project_by_{way}"
        monkeypatch.setattr(batch_module, name, recording(way, getattr(batch_module, name)))
    return taken


def by_autograd(network, x, layer, units, positions):
    """On whole images, as rules other than the paper's are."""
    plain = network.with_module(network.module)
    plain._switch_plans = dict.fromkeys(network.layers)
    return project_batch(plain, x, layer, units, positions, allow_cropping=False)


@pytest.mark.parametrize("known_values", [False, True])
@pytest.mark.parametrize("allow_cropping", [False, True])
@pytest.mark.parametrize("photo_count", [1, 2, 4])
@pytest.mark.parametrize("name", MODULES)
def test_what_activations_share_is_computed_once(paths, monkeypatch, name, known_values, allow_cropping, photo_count):
    """One photo for all activations makes a forward pass on it the cheaper way, many make crops cheaper."""
    monkeypatch.setattr(batch_module, "CROP_COST_THRESHOLD", 10)
    network, x = network_of(name), torch.randn(photo_count, 3, SIZE, SIZE, dtype=torch.float64)
    photos = torch.arange(10) % photo_count
    for layer in network.layers.values():
        assert network.switch_plan(layer.name).shares_top == (name != "pooling in a branch" or layer.name != "relu#3")
        rows, columns = layer.map_size
        units = network.activations(x, layer.name).amax(dim=(0, 2, 3)).argsort(descending=True)[torch.arange(10) % 5]
        positions = torch.stack([torch.randint(rows, (10,)), torch.randint(columns, (10,))], dim=1)
        positions[:2] = torch.tensor([[0, 0], [rows - 1, columns - 1]])
        positions[5:] = positions[:5]  # the same in other photos
        expected = by_autograd(network, x[photos], layer.name, units, positions)
        assert expected.pixels.any()
        got = project_batch(
            *(network, x, layer.name, units, positions),
            photos=photos,
            values=expected.values if known_values else None,
            allow_cropping=allow_cropping,
        )
        assert paths[-1] == "switches"
        assert (got.values - expected.values).abs().max() <= 1e-12
        assert (got.pixels - expected.pixels).norm() <= 1e-12 * expected.pixels.norm()
        assert got.crops.shape[2:] == (SIZE, SIZE) or allow_cropping


def test_without_positions_each_unit_s_largest_activation_is_projected(paths):
    network, x = network_of(), torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    units, photos = torch.arange(6), torch.tensor([0, 1, 0, 0, 1, 1])
    expected = by_autograd(network, x[photos], "relu#3", units, None)
    got = project_batch(network, x, "relu#3", units, photos=photos)
    assert paths[-1] == "switches"
    assert torch.equal(got.rows, expected.rows)
    assert torch.equal(got.columns, expected.columns)
    assert (got.pixels - expected.pixels).norm() <= 1e-12 * expected.pixels.norm()


@pytest.mark.parametrize("layer", ["conv3", "conv5"])
def test_with_known_values_the_forward_pass_ends_at_the_highest_pooling(layer):
    network, x, count = load("alexnet:random"), torch.randn(1, 3, 224, 224), 40
    arguments = network, x, layer, torch.ones(count, dtype=torch.int64), torch.tensor([[5, 6]] * count)
    shared = {"photos": torch.zeros(count, dtype=torch.int64)}

    def forward_operations(run):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return counter.get_flop_counts()["Global"][torch.ops.aten.convolution]

    values = project_batch(*arguments, **shared).values
    computed = forward_operations(lambda: project_batch(*arguments, **shared))
    known = forward_operations(lambda: project_batch(*arguments, **shared, values=values))
    above = [forward_operations(lambda name=name: network.activations(x, name)) for name in ("conv2", layer)]
    assert computed - known == above[1] - above[0] > 0


def test_known_values_are_what_is_sent_down():
    network, x = network_of(), torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    units, positions = torch.tensor([3]), torch.tensor([[2, 5]])
    one = project_batch(network, x, "relu#3", units, positions, values=torch.tensor([1.0]))
    seven = project_batch(network, x, "relu#3", units, positions, values=torch.tensor([7.0]))
    assert seven.values.tolist() == [7]
    assert one.pixels.any()
    assert torch.allclose(seven.pixels, 7 * one.pixels, rtol=1e-12)


class Saved(torch.autograd.Function):
    """A ReLU whose own backward pass reads what it has saved."""

    @staticmethod
    def forward(ctx, x):
        output = x.clamp(min=0)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, signal):
        (output,) = ctx.saved_tensors
        return signal * output


def changed_behind_a_view(m, x):
    x = m.a(x)
    half = x[:, :4]
    F.relu_(x)
    return m.relu(m.b(torch.cat([half, x[:, 4:]], dim=1)))


def aliased(m, x):
    x = m.a(x)
    y = x.contiguous()  # x itself
    F.relu_(y)
    return m.relu(m.b(y) + m.b(x))


def signal_for_weights(m, x):
    weights = m.c.weight[None] * x.mean((1, 2, 3)).view(-1, 1, 1, 1, 1)
    maps = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weights.flatten(0, 1), groups=len(x))
    return m.relu(m.b(m.relu(maps.view(len(x), -1, *maps.shape[2:]))))


READ_VALUES = {
    "a branch that no trace shows": lambda m, x: m.relu(m.b(m.relu(m.a(x)) + torch.vmap(torch.tanh)(m.c(x)))),
    "a constant divided by maps": lambda m, x: m.relu(m.b(torch.ones_like(x[:1, :1, :1, :1]) / (1 + m.relu(m.a(x))))),
    "a signal for weights": signal_for_weights,
    "maps that change behind their view": changed_behind_a_view,
    "values in a list": lambda m, x: m.relu(
        m.b(m.relu(m.a(x)) * torch.tensor(x.mean((1, 2, 3)).tolist(), dtype=x.dtype).view(-1, 1, 1, 1))
    ),
    "a maximum of two maps": lambda m, x: m.relu(m.b(torch.maximum(m.relu(m.a(x)), m.c(x)))),
    "a gate": lambda m, x: m.relu(m.b(m.relu(m.a(x)) * m.c(x).sigmoid())),
    "a backward pass of its own": lambda m, x: m.relu(m.b(Saved.apply(m.a(x)))),
    "a view changed in place": lambda m, x: m.relu(m.b(m.halves(m.a(x)))),
    "returned switches": lambda m, x: m.relu(m.b(F.max_pool2d(m.relu(m.a(x)), 2, return_indices=True)[0])),
    "adaptive pooling": lambda m, x: m.relu(m.b(F.adaptive_max_pool2d(m.relu(m.a(x)), 5))),
}


class Reading(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(3, 8, 3)
        self.relu, self.run = nn.ReLU(), run

    def halves(self, x):
        first, second = x.chunk(2, dim=1)
        return torch.cat([first.relu_(), second], dim=1)

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize("name", READ_VALUES)
@pytest.mark.filterwarnings("ignore:The way down from", "ignore:network (gives|makes other calls|reads)")
@pytest.mark.filterwarnings("ignore:.* has other activations on a crop")  # than those that are made up here
def test_what_reads_more_than_switches_goes_by_autograd(name, paths):
    network = Network(Reading(READ_VALUES[name]).double().eval(), torchvision_preprocessing(16, 16))
    x, layer = torch.randn(2, 3, 16, 16, dtype=torch.float64), list(network.layers)[-1]
    units = network.activations(x, layer).flatten(2).amax(dim=2).argmax(dim=1)
    positions = torch.tensor([[1, 1], [0, 0]])
    photos = torch.tensor([1, 1])
    got = project_batch(network, x, layer, units, positions, photos=photos, values=torch.tensor([7.0, 8.0]))
    assert paths[-1] == "autograd"
    expected = by_autograd(network, x[photos], layer, units, positions)
    assert torch.allclose(got.pixels, expected.pixels, rtol=1e-10, atol=1e-12)
    assert torch.allclose(got.values, expected.values, rtol=1e-10)


@pytest.mark.parametrize("rules", ["overwrite", "differentiated-norm", "guided", "gradient"])
def test_other_rules_read_values(rules, paths):
    network, x = network_of(), torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    project_batch(network, x, "relu#3", torch.tensor([0]), torch.tensor([[1, 1]]), rules=rules)
    assert paths[-1] == "autograd"


class ConvolutionsBack(TorchDispatchMode):
    """Keeps how many signals each convolution is passed by, on the way down."""

    def __init__(self):
        super().__init__()
        self.signals = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.signals.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def test_one_unit_s_activations_at_one_position_share_the_way_down_to_the_pooling(paths):
    network, x = network_of("pooling"), torch.randn(6, 3, SIZE, SIZE, dtype=torch.float64)
    layer, units, positions = network.convolutional_layers[-1], torch.tensor([3, 3, 5, 3, 3, 3]), torch.tensor([[2, 4]] * 6)
    project_batch(network, x, layer, units, positions, values=torch.rand(6))  # compares with autograd
    with ConvolutionsBack() as passed:
        project_batch(network, x, layer, units, positions, values=torch.rand(6))
    assert paths[-1] == "switches"
    assert passed.signals == [2, 2]  # the lowest convolution, which is below the pooling, has a kernel of its own


def test_activations_of_zero_and_impossible_ones_do_not_spoil_what_is_shared():
    network, x = network_of("pooling"), torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64)
    arguments = network, x, network.convolutional_layers[-1], torch.zeros(3, dtype=torch.int64), torch.tensor([[1, 2]] * 3)
    assert not project_batch(*arguments, values=torch.zeros(3)).pixels.any()
    some = project_batch(*arguments, values=torch.tensor([0.0, 2.0, 1.0]))
    assert [bool(picture.any()) for picture in some.pixels] == [False, True, True]
    assert torch.equal(
        project_batch(*arguments, values=torch.tensor([0.0, 2.0, 3.0]), start="one").crops[1],
        project_batch(*arguments, values=torch.tensor([0.0, 1.0, 1.0])).crops[1],
    )
    for value in (torch.nan, torch.inf):  # what cannot be is computed again
        got = project_batch(*arguments, values=torch.tensor([1.0, value, 1.0]))
        assert (got.pixels - by_autograd(*arguments).pixels).norm() <= 1e-12 * got.pixels.norm()


@pytest.fixture
def verified_layers(monkeypatch):
    """The layers of which projections by switches were compared with those by autograd, in order."""
    layers, original = [], by_switches._verify

    def record(network, layer):
        layers.append(layer)
        return original(network, layer)

    monkeypatch.setattr(by_switches, "_verify", record)
    return layers


def project_each_layer(network, layers):
    for layer in layers:
        project_batch(network, torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64), layer, torch.tensor([0]))


def test_a_layer_vouches_for_those_through_which_all_its_signals_pass(verified_layers):
    network = network_of("pooling")
    project_each_layer(network, reversed(network.layers))
    assert verified_layers == ["relu#3"]


def test_a_layer_does_not_vouch_for_higher_ones(verified_layers):
    network = network_of("pooling")
    project_each_layer(network, network.layers)
    assert verified_layers == ["relu#1", "relu#2", "relu#3"]


def test_a_layer_does_not_vouch_for_another_branch(verified_layers):
    module = Reading(lambda m, x: (m.relu(m.b(m.relu(m.a(x)))), m.relu(m.c(x)))[0])
    network = Network(module.double().eval(), torchvision_preprocessing(SIZE, SIZE))
    project_each_layer(network, reversed(network.layers))
    assert verified_layers == ["relu#3", "relu#2"]


def test_a_layer_that_is_never_active_vouches_for_none(verified_layers):
    network = network_of("pooling")
    network.module.last.bias.data.fill_(-1e6)
    project_each_layer(network, reversed(network.layers))
    assert verified_layers == ["relu#3", "relu#2"]
    assert network.verified_switch_plans == {"relu#3": False, "relu#2": True, "relu#1": True}


def split_elsewhere(m, x, run=lambda function, maps: function(maps)):
    """The highest pooling below the last layer is above what is run by `run`, that of the layer before it below that."""
    low = m.relu(m.a(x))
    pooled, shortcut = F.max_pool2d(low, 2), run(lambda maps: maps[..., ::2, ::2] * 2.0, low)
    middle = m.relu(F.conv2d(pooled, m.b.weight, padding=1) + shortcut)
    return m.relu(m.b(F.max_pool2d(middle, 2)))


def around(m, x, run=lambda function, maps: function(maps)):
    """Nothing of the last layer's signal goes through what is run by `run`, as the weights there are zero."""
    low = m.relu(m.a(x))
    middle = m.relu(m.b(low) + run(lambda maps: maps * 2.0, F.conv2d(low, m.b.weight)))
    return m.relu(low[:, :, 1:-1, 1:-1] + middle * 0)


def clamped_on_the_way(m, x):
    """A hook, which is no call, makes the projection another function of the activation than a product."""
    x = m.a(x)
    if x.requires_grad:
        x.register_hook(lambda signal: signal.clamp(-0.002, 0.002))
    return m.relu(m.b(m.relu(x)))


def hidden(function, maps):
    """Run a function so that no trace sees what it does."""
    return torch.vmap(function)(maps)


@pytest.mark.parametrize(("run", "expected"), [(split_elsewhere, ["#3", "#2", "#1"]), (around, ["#3", "#2"])])
def test_a_layer_does_not_vouch_for_what_its_signals_may_miss(run, expected, verified_layers):
    network = Network(Reading(run).double().eval(), torchvision_preprocessing(SIZE, SIZE))
    project_each_layer(network, reversed(network.layers))
    assert verified_layers == [f"relu{number}" for number in expected]


HIDDEN = {
    "split elsewhere": lambda m, x: split_elsewhere(m, x, hidden),
    "around": lambda m, x: around(m, x, hidden),
    "clamped on the way": clamped_on_the_way,
}


@pytest.mark.parametrize("run", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.filterwarnings("ignore:network gives")
def test_what_a_layer_does_not_vouch_for_is_found_out(run):
    network = Network(Reading(run).double().eval(), torchvision_preprocessing(16, 16))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for layer in reversed(network.layers):
        unit = int(network.activations(x, layer).amin(dim=0).flatten(1).amax(dim=1).argmax())
        arguments = layer, torch.tensor([unit, unit]), torch.tensor([[0, 0]] * 2)
        expected = by_autograd(network, x, *arguments)
        got = project_batch(network, x, *arguments, values=expected.values)
        assert torch.allclose(got.pixels, expected.pixels, rtol=1e-10, atol=1e-12)


VISIBLE = {
    "keywords": lambda m, x: m.relu(
        m.b(F.max_pool2d(input=m.relu(m.a(x)), kernel_size=3, stride=2, padding=1, ceil_mode=True))
    ),
    "a ReLU in place on the pooled maps": lambda m, x: F.relu_(F.max_pool2d(m.a(x), 2)),
    "a sum in place": lambda m, x: m.relu(m.b(F.max_pool2d(m.a(x), 2).add_(F.max_pool2d(m.c(x), 2)))),
    "two poolings": lambda m, x: m.relu(m.b(F.max_pool2d(m.relu(m.b(F.max_pool2d(m.relu(m.a(x)), 2))), 2))),
    "a pooling of a pooling": lambda m, x: m.relu(m.b(F.max_pool2d(F.max_pool2d(m.relu(m.a(x)), 2), 3, 1, 1))),
    "a pooling of the input": lambda m, x: m.relu(m.b(m.relu(m.a(F.max_pool2d(x, 3, 1, 1))))),
    "a sum around the pooling": lambda m, x: m.relu(F.max_pool2d(m.a(x), 3, 1, 1) + m.c(x)),
    "dropout in evaluation mode": lambda m, x: m.relu(m.b(F.dropout(m.relu(F.max_pool2d(m.a(x), 2)), training=False))),
    "a fully connected layer": lambda m, x: m.relu(
        F.linear(F.adaptive_avg_pool2d(F.max_pool2d(m.relu(m.a(x)), 2), 1).flatten(1), m.b.weight[:, :, 1, 1])
    ),
}


@pytest.mark.parametrize("name", VISIBLE)
@pytest.mark.parametrize("photo_count", [1, 4])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)]
)
def test_every_structure_that_a_trace_shows_goes_by_switches(paths, name, photo_count, dtype, tolerance):
    network = Network(Reading(VISIBLE[name]).to(dtype).eval(), torchvision_preprocessing(22, 22))
    x, photos = torch.randn(photo_count, 3, 22, 22).to(dtype), torch.arange(10) % photo_count
    for layer in network.layers.values():
        rows, columns = layer.map_size
        units = torch.randint(layer.units, (10,))
        positions = torch.stack([torch.randint(rows, (10,)), torch.randint(columns, (10,))], dim=1)
        positions[:2] = torch.tensor([[0, 0], [rows - 1, columns - 1]])
        units[5:], positions[5:] = units[:5], positions[:5]
        expected = by_autograd(network, x[photos], layer.name, units, positions)
        got = project_batch(network, x, layer.name, units, positions, photos=photos, values=expected.values)
        assert paths[-1] == "switches"
        norms = expected.pixels.double().flatten(1).norm(dim=1)
        apart = (got.pixels.double() - expected.pixels.double()).flatten(1).norm(dim=1)
        assert (apart <= tolerance * norms).all()


def test_values_are_taken_as_numbers():
    network, x = network_of("no pooling"), torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    arguments = network, x, "relu#1", torch.tensor([3, 3]), torch.tensor([[2, 5]] * 2)
    got = project_batch(*arguments, values=torch.tensor([2.0, -1.0], requires_grad=True))
    assert not got.crops.requires_grad
    assert got.pixels[0].any()
    assert not got.pixels[1].any()  # no activation is negative
