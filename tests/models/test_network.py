"""What a network lets be seen of its module, against running the module by hand."""

import copy
import re

import pytest
import torch
import torchvision
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import AlexNet2012, Network, ZFNet, load, save_weights

NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def without_memory(build, crop, names=NAMES):
    with torch.device("meta"):
        return Network(build(), torchvision_preprocessing(crop=crop), layer_names=names)


@pytest.mark.parametrize(
    ("build", "crop", "fields"),
    [
        (AlexNet2012, 227, [11, 51, 99, 131, 163]),
        (ZFNet, 224, [7, 27, 75, 107, 139]),
        (torchvision.models.alexnet, 224, [11, 51, 99, 131, 163]),
    ],
)
def test_layers_have_their_names_and_receptive_fields(build, crop, fields):
    network = without_memory(build, crop)
    assert tuple(network.layers) == NAMES
    assert network.convolutional_layers == list(NAMES[:5])
    assert [network.layer(name).field.size for name in NAMES] == [(size, size) for size in [*fields, crop, crop]]
    assert [network.layer(name).name for name in NAMES] == list(NAMES)


def test_layers_of_others_are_named_by_their_modules():
    network = without_memory(torchvision.models.alexnet, 224, None)
    assert list(network.layers) == [f"features.{n}" for n in (1, 4, 7, 9, 11)] + ["classifier.2", "classifier.5"]


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        ((torchvision.models.alexnet, torchvision_preprocessing()), r"needs a torch\.nn\.Module, such as .*, not <function"),
        ((nn.ReLU(), None), "needs the Preprocessing that its weights were trained with"),
        ((nn.ReLU(), torchvision_preprocessing), "such as torchvision_preprocessing"),
    ],
)
def test_what_is_no_module_or_no_preprocessing_is_refused(arguments, saying):
    with pytest.raises(UsageError, match=saying):
        Network(*arguments)


def test_an_unknown_layer_lists_the_layers(trunk):
    with pytest.raises(UsageError, match=r"zfnet has no layer 'fc6'; its layers are conv1, conv2, conv3, conv4, conv5\."):
        trunk.activations(torch.zeros(1, 3, 224, 224), "fc6")


def by_hand(module, x):
    """The layers of a ZFNet with the paper's order, from its own parts."""
    found = {}
    x = found["conv1"] = module.conv1(x).clamp(min=0)
    x = found["conv2"] = module.conv2(module.norm(module.pool(x))).clamp(min=0)
    x = found["conv3"] = module.conv3(module.norm(module.pool(x))).clamp(min=0)
    x = found["conv4"] = module.conv4(x).clamp(min=0)
    x = found["conv5"] = module.conv5(x).clamp(min=0)
    x = found["fc6"] = module.fc6(module.pool(x).flatten(1)).clamp(min=0)
    found["fc7"] = x = module.fc7(x).clamp(min=0)
    return found, module.fc8(x)


def test_activations_are_those_of_the_module_run_by_hand(zfnet):
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected, _ = by_hand(zfnet.module, x)
    for name in NAMES:
        found = zfnet.activations(x, name)
        assert found.shape == expected[name].shape
        assert torch.allclose(found, expected[name], rtol=1e-4, atol=1e-5 * expected[name].max().item()), name
        assert not found.requires_grad


def test_probabilities_are_the_softmax_of_the_scores(zfnet):
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        _, scores = by_hand(zfnet.module, x)
    exponentials = scores.exp()
    assert torch.allclose(zfnet.probabilities(x), exponentials / exponentials.sum(dim=1, keepdim=True))


def test_capture_passes_layers_in_the_order_of_the_forward_pass_and_ends_at_the_last(zfnet, monkeypatch):
    assert "fc6" in zfnet.layers  # traced before the trap is set
    monkeypatch.setattr(zfnet.module.fc6, "forward", lambda _: pytest.fail("the pass should have ended before fc6"))
    shapes = {}
    zfnet.capture(torch.zeros(2, 3, 224, 224), ["conv5", "conv1"], lambda name, maps: shapes.update({name: maps.shape}))
    assert list(shapes.items()) == [("conv1", (2, 96, 110, 110)), ("conv5", (2, 256, 13, 13))]


def test_capture_gives_fully_connected_layers_as_maps_of_one_position(zfnet):
    shapes = []
    zfnet.capture(torch.zeros(2, 3, 224, 224), ["fc7"], lambda _, maps: shapes.append(maps.shape))
    assert shapes == [(2, 16, 1, 1)]


def test_capture_without_layers_does_nothing(zfnet, monkeypatch):
    assert "conv1" in zfnet.layers
    monkeypatch.setattr(zfnet.module.conv1, "forward", lambda _: pytest.fail("no layer was asked for"))
    zfnet.capture(torch.zeros(1, 3, 224, 224), [], lambda *_: pytest.fail("no layer was asked for"))


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 1, 224, 224), (1, 3, 227, 227), (1, 3, 224, 100)])
def test_an_input_of_another_shape_is_refused(zfnet, shape):
    for use in (zfnet.probabilities, lambda x: zfnet.activations(x, "conv1")):
        with pytest.raises(UsageError, match=r"zfnet takes a tensor of shape \(N, 3, 224, 224\), not \("):
            use(torch.zeros(shape))


def test_double_precision_inputs_are_taken(zfnet):
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(zfnet.activations(x.double(), "conv2"), zfnet.activations(x, "conv2"))


def test_preprocess_makes_an_input(zfnet, photo):
    assert torch.equal(zfnet.preprocess(photo), torchvision_preprocessing()(photo))
    assert zfnet.probabilities(zfnet.preprocess(photo)[None]).shape == (1, 10)


def test_the_digest_tells_weights_apart(trunk):
    twin = copy.deepcopy(trunk.module)
    assert Network(twin, trunk.preprocessing).digest == trunk.digest
    with torch.no_grad():
        twin.conv4.bias[7] += 1e-7
    assert Network(twin, trunk.preprocessing).digest != trunk.digest


class TwoParts(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.add_module(first, nn.Conv2d(1, 1, 1, bias=False))
        self.add_module(second, nn.BatchNorm2d(1))


def test_the_digest_depends_on_names_and_buffers():
    module = TwoParts("a", "b")
    before = Network(module, torchvision_preprocessing()).digest
    module.b.running_mean += 1
    moved = Network(module, torchvision_preprocessing()).digest
    other = TwoParts("c", "b")
    other.load_state_dict({name.replace("a.", "c."): tensor for name, tensor in module.state_dict().items()})
    assert len({before, moved, Network(other, torchvision_preprocessing()).digest}) == 3


def test_the_digest_is_that_of_the_values_in_any_precision():
    module = nn.Linear(3, 2)
    assert (
        Network(module.bfloat16(), torchvision_preprocessing()).digest
        != Network(copy.deepcopy(module).float(), torchvision_preprocessing()).digest
    )


def test_names_say_where_the_weights_are_from(zfnet):
    assert zfnet.full_name == "zfnet (ten things)"
    assert repr(zfnet) == "<Network zfnet (ten things): conv1, conv2, conv3, conv4, conv5, fc6, fc7>"
    assert Network(zfnet.module, zfnet.preprocessing).full_name == "network"


def test_the_filters_are_the_first_layers_weights(trunk):
    assert torch.equal(trunk.filters, trunk.module.conv1.weight)
    assert not trunk.filters.requires_grad


@pytest.mark.parametrize(
    "first",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3)),
        nn.Conv2d(3, 4, 3, dilation=2),
        nn.Conv2d(3, 6, 3, groups=3),
        nn.Sequential(nn.Flatten(), nn.Linear(432, 4)),
    ],
    ids=["two convolutions", "two alike", "colours first", "dilated", "grouped", "linear"],
)
def test_a_first_layer_that_is_no_plain_convolution_of_pixels_has_no_filters(first):
    assert Network(nn.Sequential(first, nn.ReLU()), torchvision_preprocessing(12, 12)).filters is None


def test_a_network_that_is_no_classifier_says_so(trunk):
    with pytest.raises(DeconvnetError, match=r"zfnet \(a trunk\) has no classifier"):
        trunk.probabilities(torch.zeros(1, 3, 224, 224))


class OverwritesItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x.sub_(1)).relu_().mean(dim=(2, 3))


def test_a_module_that_overwrites_its_input_does_not_overwrite_the_callers():
    network = Network(OverwritesItsInput(), torchvision_preprocessing(8, 8))
    x = torch.ones(2, 3, 8, 8)
    network.activations(x, "relu")
    network.probabilities(x)
    assert (x == 1).all()


def test_the_modules_dropout_is_off_while_it_is_looked_at_and_its_mode_is_put_back(zfnet):
    module = copy.deepcopy(zfnet.module).train()
    module.conv3.eval()
    network = Network(module, zfnet.preprocessing, layer_names=NAMES)
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(network.probabilities(x), zfnet.probabilities(x))
    assert torch.equal(network.activations(x, "fc7"), zfnet.activations(x, "fc7"))
    assert [name for name, part in module.named_modules() if not part.training] == ["conv3"]


def test_to_moves_the_module_and_returns_the_network(trunk):
    network = Network(copy.deepcopy(trunk.module), trunk.preprocessing)
    assert network.to("cpu") is network
    assert network.device == torch.device("cpu")
    assert network.dtype == torch.float32


def test_layer_names_must_be_as_many_as_layers_and_different(trunk):
    for names in (["one"], ["same"] * 5):
        with pytest.raises(UsageError, match=r"zfnet needs 5 different layer names, one for each of relu#1, .*relu#5\."):
            _ = Network(trunk.module, trunk.preprocessing, name="zfnet", layer_names=names).layers


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\0", "images", "Images", "classes", "atlas.json", "hits.csv", "index.html", "figure-b.png"],
)
def test_a_layer_is_not_called_like_what_an_atlas_has_of_its_own(trunk, name):
    network = Network(trunk.module, trunk.preprocessing, layer_names=[name, "2", "3", "4", "5"])
    with pytest.raises(UsageError, match=re.escape(f"A layer cannot be called {name!r}")):
        _ = network.layers


def test_other_layers_are_called_as_one_likes(trunk):
    names = ["file", "a.b", "images2", ".hidden", "Schicht 5"]
    assert list(Network(trunk.module, trunk.preprocessing, layer_names=names).layers) == names


def test_only_networks_of_this_project_are_saved_with_their_options(tmp_path):
    network = Network(
        torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()), torchvision_preprocessing(), name="mine"
    )
    with pytest.raises(UsageError, match="mine is not a network of this project"):
        save_weights(network, tmp_path / "mine.safetensors")


def test_a_modules_own_attributes_are_not_taken_for_names():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU())
    module.layer_names = ["style", "content", "other"]
    assert list(Network(module, torchvision_preprocessing()).layers) == ["1"]


def test_a_network_made_by_hand_is_saved_so_that_it_can_be_loaded(trunk, tmp_path):
    save_weights(Network(trunk.module, trunk.preprocessing), tmp_path / "w.safetensors")
    assert load("zfnet", tmp_path / "w.safetensors").layers == trunk.layers


def test_a_module_that_does_not_fit_its_preprocessing_is_explained():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with pytest.raises(DeconvnetError, match=r"cannot be run on 3×32×32 pixels, as .* says: it fails in 0 \(Runt"):
        _ = Network(module, torchvision_preprocessing(32, 32)).layers
