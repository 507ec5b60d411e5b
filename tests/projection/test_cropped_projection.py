"""Modules that do odd things: cropped and full projections agree, or an error explains why there is none."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, DeconvnetWarning, UsageError
from deconvnet.models import Network, activation_cache, forward_patched
from deconvnet.projection import batch as batch_module
from deconvnet.projection import project_batch

SIZE = 24


class Odd(nn.Module):
    """A few convolutions, and a forward pass that is a function of itself and its input."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.strided = nn.Conv2d(3, 8, 5, stride=2)
        self.run, self.passes = forward, 0

    def forward(self, x):
        return self.run(self, x)


def network_of(forward):
    return Network(Odd(forward).double().eval(), torchvision_preprocessing(SIZE, SIZE))


def padded_by_shape(m, x):
    """As TensorFlow pads: by the size of the input."""
    for conv in (m.strided, m.c):
        total = [
            max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[-2:], conv.stride, conv.kernel_size, strict=True)
        ]
        x = F.relu(conv(F.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))))
    return x


def assigned(m, x):
    x = F.relu(m.a(x))
    y = m.b(x)
    y[:, 0] = m.c(m.b(x))[:, 0]
    return F.relu(y)


def assigned_by_mask(m, x):
    x = m.a(x)
    x[x < 0.1] = 0
    return F.relu(m.b(x.relu()))


def written_into_a_constant(m, x):
    x = F.relu(m.a(x))
    y = torch.zeros_like(x)
    y[:, :4].copy_(x[:, :4])
    return F.relu(m.b(x) + m.c(m.b(y)))


def unneeded_namedtuple(m, x):
    x = F.relu(m.a(x))
    y = F.relu(m.b(x))
    return y + F.relu(m.c(x.max(dim=1, keepdim=True).values.expand_as(x)))


def unneeded_chunk(m, x):
    x = F.relu(m.a(x))
    h = F.relu(m.b(x)[:, :4], inplace=True)
    return F.relu(m.c(x)) + (h + 1).repeat(1, 2, 1, 1)


ODD = {
    "a factor from the shape": lambda m, x: F.relu(m.b(F.relu(m.a(x)) * x.shape[-1] ** -0.5)),
    "a factor from the size": lambda m, x: F.relu(m.b(F.relu(m.a(x)) * x.size(2) ** -0.5)),
    "padding by the shape": padded_by_shape,
    "a value read into Python": lambda m, x: F.relu(
        m.b(F.relu(m.a(x)) * torch.tensor([1 + value.mean().item() for value in x], dtype=x.dtype).view(-1, 1, 1, 1))
    ),
    "a branch on values": lambda m, x: F.relu(m.b(F.relu(m.a(x)) * (2 if x.std() > 0 else 3))),
    "a check of values": lambda m, x: x if x.isnan().any() else F.relu(m.b(F.relu(m.a(x)))),
    "assigned": assigned,
    "assigned by a mask": assigned_by_mask,
    "written into a constant": written_into_a_constant,
    "a vector along columns": lambda m, x: F.relu(m.b(F.relu(m.a(x)) * torch.linspace(0.5, 1.5, SIZE, dtype=x.dtype))),
    "an unneeded namedtuple": unneeded_namedtuple,
    "an unneeded chunk in place": unneeded_chunk,
}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings(
    "ignore:The way down from", "ignore:network (gives|makes other calls|reads)", "ignore:Which pixels"
)
def test_cropped_and_full_projections_agree(name, images, monkeypatch):
    network = network_of(ODD[name])
    x, switch_plan = torch.randn(images, 3, SIZE, SIZE, dtype=torch.float64), Network.switch_plan
    for layer in network.layers.values():
        rows, columns = layer.map_size
        for row, column in ((0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)):
            units = network.activations(x, layer.name)[:, :, row, column].argmax(dim=1)
            batches = []
            for by_switches, threshold in ((False, 0), (False, 10), (True, 0), (True, 10)):
                monkeypatch.setattr(batch_module, "CROP_COST_THRESHOLD", threshold)
                monkeypatch.setattr(Network, "switch_plan", switch_plan if by_switches else lambda network, name: None)
                batches.append(project_batch(network, x, layer.name, units, torch.tensor([[row, column]] * images)))
            full, *others = batches
            for other in others:
                assert (other.values - full.values).abs().max() <= 1e-10 * full.values.abs().max()
                assert (other.pixels - full.pixels).norm() <= 1e-10 * full.pixels.norm()
            left, top, right, bottom = layer.field.clipped_box(row, column)
            full.pixels[:, :, top:bottom, left:right] = 0
            assert not full.pixels.any(), "the field holds everything that the activation depends on"


def without_gradient(m, x):
    with torch.no_grad():
        return F.relu(m.a(x))


def changed_in_place(m, x):
    x = F.relu(m.a(x))
    x += m.b(x)
    return F.relu(m.c(x))


NO_WAY = {
    "no_grad": (without_gradient, r"it is cut at conv2d of a \(test_cropped_projection.py, line \d+\), by"),
    "detach": (lambda m, x: F.relu(m.a(x).detach()), r"it is cut at detach \(test_cropped_projection.py, line \d+\), by"),
    "changed in place": (changed_in_place, r"write x = x \+ y for x \+= y"),
}


@pytest.mark.parametrize("name", NO_WAY)
def test_why_there_is_no_way_down(name):
    forward, reason = NO_WAY[name]
    network = network_of(forward)
    last = list(network.layers)[-1]
    with pytest.raises(DeconvnetError, match=f"There is no way down from {last} of network: .*{reason}"):
        project_batch(network, torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64), last, torch.tensor([0]))


@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_activation_checkpointing_is_refused():
    module = torchvision.models.DenseNet(8, (2, 2), 8, memory_efficient=True).double().eval()
    network = Network(module, torchvision_preprocessing(64, 64))
    with pytest.raises(DeconvnetError, match="switch its activation checkpointing off"):
        project_batch(network, torch.rand(1, 3, 64, 64).double(), list(network.layers)[5], torch.tensor([0]))


def test_a_network_that_changes_between_passes_is_refused():
    def forward(m, x):
        m.passes += 1
        if m.passes % 2:
            F.relu(x.new_ones(1, 2))
        return F.relu(m.b(F.relu(m.a(x))))

    network = network_of(forward)
    x = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    with pytest.raises(DeconvnetError, match="has other layers for one photo than for another"):
        _ = [network.activations(x, layer) for layer in network.layers]


def test_a_relu_on_rows_of_pixels_is_no_layer():
    network = network_of(lambda m, x: F.relu(F.relu(m.a(x)).permute(0, 2, 3, 1).reshape(-1, 8)).reshape(len(x), -1))
    with pytest.warns(DeconvnetWarning, match=r"relu gives a tensor of shape \(576, 8\).*: no layer of network"):
        assert [layer.index for layer in network.layers.values()] == [0]


def test_computing_in_numpy_is_refused():
    network = network_of(lambda m, x: torch.from_numpy(F.relu(m.a(x)).numpy() + 1))
    with pytest.raises(DeconvnetError, match="A part of this network hides what it computes"):
        _ = network.layers


@pytest.mark.filterwarnings("ignore:network reads values of maps")
@pytest.mark.parametrize(("units", "positions"), [([0, 1], None), ([0], [[0, 0], [1, 1]]), ([0], [0, 0])])
def test_counts_have_to_match(units, positions):
    network = network_of(ODD["a value read into Python"])
    positions = None if positions is None else torch.tensor(positions)
    with pytest.raises(UsageError, match="1 inputs need as many units"):
        project_batch(network, torch.rand(1, 3, SIZE, SIZE), "relu#1", torch.tensor(units), positions)


class OutOfMemoryOnce(nn.Module):
    """A network that has no memory in its next pass, if it is told so, and has it again after that."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.has_memory = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), True

    def forward(self, x):
        if not self.has_memory:
            self.has_memory = True
            raise torch.OutOfMemoryError("out of memory")
        return self.second(self.first(x).relu()).relu()


def test_a_lack_of_memory_is_no_reason_to_compute_whole_images():
    module, x = OutOfMemoryOnce().eval(), torch.randn(1, 3, 32, 32)
    network = Network(module, torchvision_preprocessing(32, 32), layer_names=["conv1", "conv2"])
    cache = activation_cache(network, x)
    module.has_memory = False
    with pytest.raises(torch.OutOfMemoryError):
        project_batch(network, x, "conv2", torch.tensor([0]), torch.tensor([[5, 5]]))
    module.has_memory = False
    with pytest.raises(torch.OutOfMemoryError):
        forward_patched(network, x, cache, torch.zeros(1, 3, 4, 4), torch.tensor([[5, 5]]), "conv2", 0)
