"""Networks by name."""

from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from deconvnet.data import imagenet_classes, torchvision_preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import ARCHITECTURES, AlexNetOptions, ZFNetOptions, describe_network, load, save_weights


@pytest.fixture
def small(monkeypatch):
    """Fewer fully connected units by default, so that `random` networks are made in no time."""
    for name, options in {"zfnet": ZFNetOptions(hidden=16), "alexnet2012": AlexNetOptions(hidden=16)}.items():
        monkeypatch.setitem(ARCHITECTURES, name, replace(ARCHITECTURES[name], options=options))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_takes_its_own_crop_and_tells_a_thousand_classes_apart(name):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        module = architecture.build(architecture.options).eval()
        assert module(torch.zeros(2, 3, architecture.preprocessing.crop, architecture.preprocessing.crop)).shape == (2, 1000)
    state = module.state_dict()
    assert state[architecture.last_weight].shape[0] == 1000
    connected = {tensor.rpartition(".")[0] for tensor in state if state[tensor].dim() == 2}
    classifier = {tensor.rpartition(".")[0] for tensor in state if tensor.startswith(architecture.classifier_prefix)}
    assert classifier == connected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_has_a_trunk_that_ends_in_six_by_six_maps(name):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        module = architecture.build(replace(architecture.options, classes=0)).eval()
        output = module(torch.zeros(2, 3, architecture.preprocessing.crop, architecture.preprocessing.crop))
    assert output.flatten(1).shape[1] in (256 * 6 * 6, 512 * 6 * 6)
    assert not any(tensor.startswith(architecture.classifier_prefix) for tensor in module.state_dict())


@pytest.mark.parametrize(
    ("name", "middle"), [("zfnet", (384, 384, 256)), ("zfnet512", (512,) * 3), ("zfnet-wide", (512, 1024, 512))]
)
def test_the_zfnets_differ_in_their_middle_layers(name, middle):
    layers = {layer["name"]: layer for layer in describe_network(name)["layers"]}
    assert tuple(layers[f"conv{number}"]["units"] for number in (3, 4, 5)) == middle


def test_a_network_is_described_without_its_weights():
    found = describe_network("zfnet")
    assert found["input"] == 224
    assert found["layers"][0] == {"name": "conv1", "units": 96, "map": [110, 110], "field": [7, 7]}
    assert found["layers"][-1] == {
        "name": "fc7",
        "units": 4096,
        "map": [1, 1],
        "field": [224, 224],
        "field_status": "whole image",
    }
    assert describe_network("alexnet")["weights"] == ["imagenet1k", "PATH", "random"]


@pytest.mark.parametrize("name", ["alexnet:imagenet1k", "torchvision:alexnet:IMAGENET1K_V1"])
def test_weights_to_download_are_described_as_published(name):
    assert describe_network(name) == describe_network(name.rpartition(":")[0])


def test_weights_that_are_here_are_described_as_they_are(tmp_path, described):
    assert describe_network("zfnet:imagenette")["layers"][-1]["units"] == 192
    theirs = torchvision.models.alexnet(num_classes=3)
    theirs.classifier = torch.nn.Identity()
    torch.save(theirs.state_dict(), tmp_path / "trunk.pth")
    found = describe_network(f"alexnet:{tmp_path / 'trunk.pth'}", described)
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert found["name"] == f"alexnet:{tmp_path / 'trunk.pth'}"
    with pytest.raises(DeconvnetError, match="there is no file of that name"):
        describe_network("zfnet:nothing")


def test_contrast_constants_that_divide_by_zero_are_refused(trunk, described, tmp_path):
    torch.save(trunk.module.state_dict(), tmp_path / "a.pth")
    described.write_text(described.read_text() + "[options.contrast]\nk = 0.0\n")
    with pytest.raises(DeconvnetError, match=r"described\.toml: Contrast normalisation has n = 5, k = 0\.0"):
        load("zfnet", tmp_path / "a.pth", described)


def test_an_unknown_network_lists_those_there_are():
    with pytest.raises(UsageError, match="There is no network 'vgg'; there are alexnet, alexnet2012, zfnet, zfnet512"):
        load("vgg:random")


def test_weights_given_twice_are_refused():
    with pytest.raises(UsageError, match=r"given twice, as 'a.pth' and as 'b.pth'"):
        load("zfnet:a.pth", "b.pth")


def test_a_network_without_weights_of_its_own_says_what_to_pass():
    with pytest.raises(UsageError, match="pass zfnet512:PATH, or zfnet512:random"):
        load("zfnet512")


def test_weights_that_do_not_exist_list_those_there_are():
    with pytest.raises(DeconvnetError) as caught:
        load("alexnet:imagenet21k")
    sentence = "alexnet has no weights 'imagenet21k', and there is no file of that name: there are imagenet1k, PATH, random."
    assert str(caught.value) == sentence


def test_weights_may_stand_in_the_name(trunk, tmp_path):
    file = tmp_path / "a:b.safetensors"
    save_weights(trunk, file)
    assert load(f"zfnet:{file}").digest == load("zfnet", file).digest == load("zfnet", str(file)).digest == trunk.digest


@pytest.mark.usefixtures("small")
def test_an_untrained_network_is_the_same_every_time_and_takes_no_random_numbers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load("zfnet:random")
    assert torch.equal(torch.rand(3), expected)
    second = load("zfnet", "random")
    assert first.digest == second.digest
    assert first.full_name == "zfnet (untrained, seed 0)"
    assert first.classes == imagenet_classes()
    assert not first.module.training
    assert load("alexnet2012:random").preprocessing.crop == 227


def test_a_torchvision_checkpoint_loads_as_torchvision_computes_it(tmp_path, described, photo):
    theirs = torchvision.models.alexnet(num_classes=3).eval()
    theirs.classifier = torch.nn.Identity()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    found = load("alexnet", tmp_path / "a.pth", described)
    x = torchvision_preprocessing()(photo)[None]
    with torch.no_grad():
        assert torch.equal(found.module(x), theirs(x))
        found.module.double()
        theirs.double()  # as float32 rounds differently with another layout in memory
        found_there = found.activations(x.double(), "conv2")
        assert torch.allclose(found_there, theirs.features[:5](x.double()), rtol=1e-10, atol=1e-12)
    assert not found.classifies


def test_weights_that_lack_everything_are_refused(tmp_path, described):
    save_file({"scale": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(DeconvnetError, match="lacks layers of alexnet: features"):
        load("alexnet", tmp_path / "a.safetensors", described)
