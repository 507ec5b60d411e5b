"""Class scores are found in what modules return, in any common shape, or their lack is said in one sentence."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, ForwardError
from deconvnet.experiments.look import look
from deconvnet.models import Network, activation_cache, forward_patched
from deconvnet.projection import project_batch

SIZE = 16

Named = namedtuple("Named", ["logits", "aux"])


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.shape = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), shape

    def forward(self, x):
        maps = F.relu(self.first(x))
        scores = self.second(maps.mean(dim=(2, 3), keepdim=True))
        return self.shape(maps, scores)


def network_of(shape):
    return Network(Net(shape).double().eval(), torchvision_preprocessing(SIZE, SIZE))


def noise(count):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


CLASSIFIERS = {
    "a tensor": lambda maps, scores: scores.flatten(1),
    "places of size one": lambda maps, scores: scores,
    "squeezed": lambda maps, scores: scores.squeeze(),
    "a dictionary with logits": lambda maps, scores: OrderedDict(features=maps, logits=scores.flatten(1)),
    "a dictionary with out": lambda maps, scores: {"out": scores.flatten(1), "aux": maps},
    "a dictionary of one": lambda maps, scores: {"anything": scores.flatten(1)},
    "a named tuple": lambda maps, scores: Named(scores.flatten(1), maps),
    "an object": lambda maps, scores: Output(scores.flatten(1), maps),
    "a tuple": lambda maps, scores: (scores.flatten(1), scores.flatten(1) * 2),
    "features first": lambda maps, scores: (maps, scores.flatten(1)),
    "a list in a dictionary": lambda maps, scores: {"logits": [scores.flatten(1), maps]},
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("count", [1, 3])
def test_class_scores_are_found(name, count):
    network, plain, x = network_of(CLASSIFIERS[name]), network_of(CLASSIFIERS["a tensor"]), noise(count)
    assert network.classifies
    assert torch.allclose(network.probabilities(x), plain.module(x).float().softmax(dim=1))
    assert torch.equal(
        project_batch(network, x, "relu", torch.arange(count)).pixels,
        project_batch(plain, x, "relu", torch.arange(count)).pixels,
    )
    patches, corners = noise(2)[:, :, :4, :4], torch.tensor([[0, 0], [7, 9]])
    output, _ = forward_patched(network, x[:1], activation_cache(network, x[:1]), patches, corners, "relu", 2)
    expected, _ = forward_patched(plain, x[:1], None, patches, corners, "relu", 2)
    assert torch.allclose(output, expected)


TRUNKS = {
    "maps": lambda maps, scores: maps,
    "maps in a dictionary": lambda maps, scores: {"out": maps},
    "a dictionary of others": lambda maps, scores: {"boxes": maps, "masks": scores},
    "nothing": lambda maps, scores: None,
    "a list for each image": lambda maps, scores: [{"scores": each.flatten()} for each in scores],
}


@pytest.mark.parametrize("name", TRUNKS)
def test_what_is_no_classifier_is_looked_at_without_class_scores(name):
    network, x = network_of(TRUNKS[name]), noise(1)
    assert not network.classifies
    with pytest.raises(DeconvnetError, match=r"network (has no classifier|gives no class scores)"):
        network.probabilities(x)
    assert look(network, x[0].float()).classes is None
    patches, corners = noise(2)[:, :, :4, :4], torch.tensor([[0, 0], [7, 9]])
    plain = network_of(CLASSIFIERS["a tensor"])
    _, maps = forward_patched(network, x, activation_cache(network, x), patches, corners, "relu", 2)
    _, expected = forward_patched(plain, x, None, patches, corners, "relu", 2)
    assert torch.allclose(maps, expected)


MAPS = {
    "two outputs": lambda m, maps: {"out": m.second(maps), "aux": m.second(maps * 2)},
    "a tuple": lambda m, maps: (m.second(maps), maps),
    "a list": lambda m, maps: [maps, m.second(maps)],
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("side", [1, 4])
def test_outputs_that_are_maps_are_whole_in_incremental_passes(name, side):
    network = network_of(lambda maps, scores: MAPS[name](network.module, maps))
    x, patches, corners = noise(1), noise(2)[:, :, :side, :side], torch.tensor([[1, 2], [7, 9]])
    cache = activation_cache(network, x)
    output, _ = forward_patched(network, x, cache, patches, corners, "relu", 2)
    expected, _ = forward_patched(network, x, None, patches, corners, "relu", 2)
    assert cache.usable
    assert output.shape == expected.shape
    assert torch.allclose(output, expected)


def test_a_vector_among_several_is_no_class_score():
    assert not network_of(lambda maps, scores: (maps, scores.flatten(1), scores.flatten(1))).classifies


def test_why_there_is_no_output_is_said():
    with pytest.raises(DeconvnetError, match=r"gives no class scores. Its output is a dictionary of boxes, masks: wrap"):
        network_of(TRUNKS["a dictionary of others"]).output(noise(1))
    with pytest.raises(DeconvnetError, match=r"Its output is NoneType, not a tensor"):
        network_of(TRUNKS["nothing"]).output(noise(1))
    network = Network(Net(TRUNKS["maps"]).eval(), torchvision_preprocessing(SIZE, SIZE), classifies=True)
    with pytest.raises(DeconvnetError, match=r"gives a tensor of shape \(1, 6, 14, 14\) for 1 photos, not \(photos"):
        network.probabilities(noise(1).float())


def test_what_a_callback_raises_leaves_as_it_is():
    def fail(layer, maps):
        raise KeyError(layer)

    with pytest.raises(KeyError, match="relu"):
        network_of(CLASSIFIERS["a tensor"]).capture(noise(1), ["relu"], fail)


@pytest.mark.parametrize("classes", [["ant", "bee"], [("", "ant", "x")], [("", 1)]])
def test_classes_that_are_no_pairs_of_text_are_refused(classes):
    with pytest.raises(DeconvnetError, match="Classes are pairs of a WordNet id"):
        Network(Net(CLASSIFIERS["a tensor"]), torchvision_preprocessing(SIZE, SIZE), classes=classes)


def test_a_lazy_layer_or_one_without_values_is_refused():
    with pytest.raises(DeconvnetError, match="network has lazy layers, which have no weights yet"):
        Network(nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()), torchvision_preprocessing(SIZE, SIZE))
    with torch.device("meta"):
        network = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torchvision_preprocessing(SIZE, SIZE))
    with pytest.raises(DeconvnetError, match="is on the meta device: its weights have no values"):
        _ = network.digest


def test_a_network_of_which_only_other_pixels_fail():
    def run(maps, scores):
        if maps.abs().sum() > 60:
            raise OverflowError("too bright")
        return scores.flatten(1)

    with pytest.raises(ForwardError, match=r"it fails \(test_module_output.py, line \d+; OverflowError: too bright\)"):
        _ = network_of(run).layers
