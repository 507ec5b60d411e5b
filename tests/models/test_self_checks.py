"""What a module may do otherwise than its trace says is found out, and refused or computed in another way."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, DeconvnetWarning
from deconvnet.models import Network, activation_cache, forward_patched
from deconvnet.projection import project_batch

SIZE = 24


class Written(nn.Module):
    """Two convolutions, and a classifier of so many classes; `run(module, x)` is the forward pass."""

    def __init__(self, run, classes=4):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(3, 8, 3)
        self.classifier = nn.Linear(8 * (SIZE - 4) ** 2, classes)
        self.run, self.passes = run, 0

    def forward(self, x):
        self.passes += len(x)
        return self.run(self, x)

    def classify(self, x, shape=torch.flatten):
        return self.classifier(shape(F.relu(self.b(x)), 1))


def network_of(run):
    return Network(Written(run).double().eval(), torchvision_preprocessing(SIZE, SIZE))


def by_view(m, x):
    maps = F.relu(m.b(F.relu(m.a(x))))
    return m.classifier(maps.view(maps.size(0), -1))


def noise(count=2):
    return torch.randn(count, 3, SIZE, SIZE, dtype=torch.float64)


def test_a_module_that_relies_on_contiguous_maps_gets_them():
    """`x.view(x.size(0), -1)` after a convolution."""
    network, x = network_of(by_view), noise()
    plain = network_of(lambda m, x: m.classify(F.relu(m.a(x))))
    plain.module.load_state_dict(network.module.state_dict())
    assert torch.allclose(network.output(x), plain.output(x), rtol=1e-10)
    for layer in network.layers:
        assert torch.allclose(network.activations(x, layer), plain.activations(x, layer), rtol=1e-10)
        units = torch.tensor([1, 2])
        got, expected = (project_batch(each, x, layer, units).pixels for each in (network, plain))
        assert expected.any()
        assert torch.allclose(got, expected, rtol=1e-10, atol=1e-14)


def counting(m, x):
    return m.classify(F.relu(m.a(x))) * m.passes


def last_pass(m, x):
    maps = F.relu(m.a(x))
    before, m.last = getattr(m, "last", None), maps
    return m.classify(maps + before if before is not None and len(before) == len(maps) else maps + 0 * maps)


UNREPEATABLE = {
    "a dropout that is always active": (
        lambda m, x: m.classify(F.dropout(F.relu(m.a(x)), 0.5)),
        "gives another output in each pass over the same photo, also in evaluation mode (from dropout on)",
    ),
    "state": (counting, "gives another output in each pass over the same photo, also in evaluation mode (from mul on)"),
    "the batch's mean": (
        lambda m, x: m.classify(F.relu(m.a(x - x.mean(0, keepdim=True)))),
        "depends on the others in a batch (from sub on)",
    ),
    "the first photo": (lambda m, x: m.classify(F.relu(m.a(x - x[:1]))), "depends on the others in a batch (from sub on)"),
    "the last photo": (lambda m, x: m.classify(F.relu(m.a(x - x[-1:]))), "depends on the others in a batch (from sub on)"),
    "the batch's largest value": (
        lambda m, x: m.classify(F.relu(m.a(x / x.abs().max()))),
        "depends on the others in a batch (from div on)",
    ),
    "the last pass": (
        last_pass,
        "gives another output in each pass over the same photo, also in evaluation mode, so it cannot be looked at",
    ),
    "one photo at a time": (
        lambda m, x: m.classifier(F.relu(m.b(F.relu(m.a(x)))).reshape(1, -1)),
        "network takes one photo, but not three at once (RuntimeError: ",
    ),
}


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_what_is_random_or_depends_on_the_batch_is_refused_by_name(name):
    run, sentence = UNREPEATABLE[name]
    with pytest.raises(DeconvnetError, match=re.escape(sentence)):
        _ = network_of(run).layers


def gated_unseen(m, x):
    """A call of which no trace sees what it does."""
    gate = torch.vmap(lambda maps: maps.mean(dim=(1, 2), keepdim=True).sigmoid())(m.c(x))
    return m.classify(F.relu(m.a(x)) * gate)


def above_a_quantile(m, x):
    maps = F.relu(m.a(x))
    thresholds = [np.quantile(each.detach().numpy(), 0.9) for each in maps]
    return m.classify(maps - torch.tensor(thresholds).view(-1, 1, 1, 1))


def above_a_number(m, x):
    maps = F.relu(m.a(x))
    return m.classify(torch.cat([each - float(each.detach().quantile(0.9)) for each in maps.split(1)]))


def two_ways(m, x):
    maps = F.relu(m.a(x))
    return m.classify(maps if x.any() else maps * maps.mean())


def attended_unseen(m, x):
    """The weights of such a gate always sum to one."""
    gate = torch.vmap(lambda maps: maps.mean(dim=(1, 2), keepdim=True).softmax(dim=0))(m.c(x))
    return m.classify(F.relu(m.a(x)) * gate)


UNSEEN = {
    "a softmax that is hidden": attended_unseen,
    "a function that hides what it computes": gated_unseen,
    "a threshold read into NumPy": above_a_quantile,
    "a number read from maps": above_a_number,
    "two ways": two_ways,
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_cannot_be_followed_is_said_and_whole_images_are_computed(name):
    network, x = network_of(UNSEEN[name]), noise()
    with pytest.warns(
        DeconvnetWarning, match=r"network (gives \w+ .*something that depends|reads values of maps into Python, by \w+)"
    ):
        layers = network.layers
    assert [layer.field.size for layer in layers.values()] == [(SIZE, SIZE)] * len(layers)
    patches, corners = noise(5)[:, :, :6, :6], torch.tensor([[0, 0], [9, 3], [18, 18], [4, 11], [17, 2]])
    occluded = x[:1].repeat(5, 1, 1, 1)
    for image, patch, (row, column) in zip(occluded, patches, corners.tolist(), strict=True):
        image[:, row : row + 6, column : column + 6] = patch
    last = list(layers)[-1]
    output, maps = forward_patched(network, x[:1], activation_cache(network, x[:1]), patches, corners, last, 3)
    assert torch.allclose(output, network.module(occluded), rtol=1e-10)
    assert torch.allclose(maps, network.activations(occluded, last)[:, 3], rtol=1e-10)


def test_what_a_module_keeps_of_its_trial_stays_in_a_copy():
    def keeping(m, x):
        m.first = getattr(m, "first", x.mean())
        return m.classify(F.relu(m.a(x)))

    network = network_of(keeping)
    assert len(network.layers) == 2
    assert not hasattr(network.module, "first")


def test_a_network_is_tried_by_six_passes_of_one_image_besides_its_trace():
    passes = []
    network = network_of(lambda m, x: passes.append(len(x)) or m.classify(F.relu(m.a(x))))
    network.output(noise(1))
    _ = network.layers
    network.output(noise(1))
    assert sum(passes) - 2 == 1 + 6


def test_a_buffer_that_the_first_pass_fills_is_no_state():
    def run(m, x):
        if not m.filled.any():
            m.filled.fill_(2.0)
        return m.classify(F.relu(m.a(x)) * m.filled)

    network = network_of(run)
    network.module.register_buffer("filled", torch.zeros(1, dtype=torch.float64))
    assert len(network.layers) == 2


def test_weights_may_change_before_the_layers_are_asked_for():
    """As in training, which computes outputs long before."""
    network = network_of(lambda m, x: m.classify(F.relu(m.a(x))))
    network.output(noise(1))
    torch.nn.init.normal_(network.module.classifier.weight)
    assert len(network.layers) == 2


def test_weights_may_be_standardised_by_batch_normalisation():
    def standardised(m, x):
        weight = F.batch_norm(m.b.weight.view(1, 8, -1), None, None, training=True).view_as(m.b.weight)
        return F.relu(F.conv2d(F.relu(m.a(x)), weight))

    network, x = network_of(standardised), noise()
    assert len(network.layers) == 2
    with torch.no_grad():
        assert torch.allclose(network.activations(x, "relu#2"), network.module(x), rtol=1e-10)
