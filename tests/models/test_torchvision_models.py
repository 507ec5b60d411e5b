"""torchvision's models by name: against torchvision's own builders and transforms. No test leaves this machine."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision import models

from deconvnet.data import imagenet_classes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import describe_network, load, loading, torchvision_models
from deconvnet.models.registry_entry import build_empty
from deconvnet.models.weights_metadata import parse_metadata
from helpers.loading import refusal

#: Models of each kind that loading has to know something of, small enough to be made many times.
MODELS = ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_x_400mf", "densenet121", "googlenet", "inception_v3"]
INCEPTIONS = {"googlenet", "inception_v3"}


def trained(model, classes):
    """A module as torchvision makes it for a file of its own, with statistics as if it had been trained."""
    more = {"init_weights": False, "transform_input": True, "aux_logits": True} if model in INCEPTIONS else {}
    module = models.get_model(model, num_classes=classes, **more)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def as_published(module):
    """Its tensors as in torchvision's files of 2017: old names, nothing counted."""
    old = {}
    for name, tensor in module.state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        if not name.endswith("num_batches_tracked"):
            old[name] = tensor
    return old


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes a file torchvision's own one of a model, as far as digests go; returns the file."""

    def make(model, state, **metadata):
        file = tmp_path / f"{model}.pth"
        torch.save(state, file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        own = {"sha256": digest[:8], "url": file.as_uri(), "file": f"{model}-{digest[:8]}.pth"}
        rows = [
            replace(row, **own, metadata={**row.metadata, **metadata}) if row.network == f"torchvision:{model}" else row
            for row in torchvision_models.pretrained_files()
        ]
        monkeypatch.setattr(torchvision_models, "pretrained_files", lambda: tuple(rows))
        return file

    return make


@pytest.mark.parametrize("model", MODELS)
def test_a_file_of_torchvision_is_recognised_and_computes_what_torchvision_does(model, publish, photo):
    theirs = trained(model, 1000)
    file = publish(model, as_published(theirs))
    found = load(f"torchvision:{model}:{file}")
    weights = models.get_model_weights(model).DEFAULT
    assert found.full_name == f"torchvision:{model} ({weights.name})"
    assert found.classes == imagenet_classes()
    x = found.preprocess(photo)[None]
    assert (x - weights.transforms()(photo)).abs().max() < 0.05  # two grey levels
    with torch.no_grad():
        assert torch.equal(found.module(x), theirs(x))
    assert found.probabilities(x).shape == (1, 1000)
    assert not found.module.training


@pytest.mark.parametrize("model", MODELS)
def test_a_file_of_ones_own_has_its_own_classes_and_needs_a_description(model, tmp_path, described):
    theirs = trained(model, 7)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "mine.pt")
    name = f"torchvision:{model}:{tmp_path / 'mine.pt'}"
    assert "does not say what preprocessing its weights expect" in refusal(name)
    size = 299 if model == "inception_v3" else 224
    text = described.read_text().replace("256", "300").replace("224", str(size))
    text += 'interpolation = "bicubic"\n'
    described.write_text(text)
    if model in INCEPTIONS:
        assert "does not say whether" in refusal(name, None, described)
        described.write_text(text + "[options]\ntransform_input = true\n")
    found = load(name, preprocessing=described)
    assert found.full_name == f"torchvision:{model} (mine.pt)"
    assert (found.preprocessing.crop, found.preprocessing.interpolation, found.classes) == (size, "bicubic", None)
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        assert torch.equal(found.module(x), theirs(x))


def test_transforming_blue_green_red_is_refused(tmp_path, described):
    torch.save(trained("googlenet", 3).state_dict(), tmp_path / "a.pth")
    described.write_text(described.read_text().replace("RGB", "BGR") + "[options]\ntransform_input = true\n")
    assert "which is defined for RGB only" in refusal("torchvision:googlenet", tmp_path / "a.pth", described)


@pytest.mark.parametrize("absent", [True, False])
def test_a_file_without_a_classifier_is_a_trunk(absent, publish):
    """The tensors are missing, or torchvision says that they hold nothing (vgg16's IMAGENET1K_FEATURES)."""
    theirs = trained("squeezenet1_1", 1000)
    state = {name: value for name, value in theirs.state_dict().items() if not (absent and name.startswith("classifier"))}
    file = publish("squeezenet1_1", state, **({} if absent else {"options": {"classes": 0}}))
    found = load(f"torchvision:squeezenet1_1:{file}")
    assert not found.classifies
    assert found.classes is None
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(found.module(x), theirs.features(x).flatten(1))
    assert not any(name.startswith("classifier") for name in found.layers)


def test_vgg16s_features_come_without_classes():
    row = next(row for row in torchvision_models.pretrained_files() if row.keyword == "IMAGENET1K_FEATURES")
    assert row.network == "torchvision:vgg16"
    assert parse_metadata(row.metadata, row.file).classes is None
    assert row.metadata["options"] == {"classes": 0}


def test_the_default_is_downloaded_and_an_entry_may_be_named(publish, tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    try:
        theirs = trained("squeezenet1_1", 1000)
        publish("squeezenet1_1", theirs.state_dict())
        found = load("torchvision:squeezenet1_1")
        assert torch.equal(found.module.classifier[1].weight, theirs.classifier[1].weight)
        assert load("torchvision:squeezenet1_1:IMAGENET1K_V1").digest == found.digest
        assert load("torchvision:squeezenet1_1", "IMAGENET1K_V1").digest == found.digest
    finally:
        torch.hub.set_dir(before)


def test_another_models_file_says_whose_it_is(publish):
    file = publish("squeezenet1_1", trained("squeezenet1_1", 1000).state_dict())
    sentence = refusal(f"torchvision:squeezenet1_0:{file}")
    assert "holds weights of torchvision:squeezenet1_1, not of torchvision:squeezenet1_0" in sentence


def test_a_checkpoint_that_would_run_code_is_refused(publish):
    assert "nothing else is loaded, because a pickle can run code" in refusal(
        f"torchvision:squeezenet1_1:{publish('squeezenet1_1', nn.ReLU())}"
    )


@pytest.mark.parametrize("row", torchvision_models.pretrained_files(), ids=lambda row: row.file)
def test_every_row_says_what_torchvision_says(row):
    weights = models.get_model_weights(row.network.removeprefix("torchvision:"))[row.keyword]
    digits = row.sha256
    assert len(digits) >= 8
    assert set(digits) <= set("0123456789abcdef")
    assert row.url == weights.url
    assert torch.hub.HASH_REGEX.search(row.file)[1] == digits
    transforms = weights.transforms()
    found = parse_metadata(row.metadata, row.file)
    view = found.preprocessing
    assert ([view.resize], [view.crop]) == (transforms.resize_size, transforms.crop_size)
    assert view.interpolation == transforms.interpolation.value
    assert transforms.antialias
    assert view.scale == 1
    assert torch.equal(view.mean.flatten(), torch.tensor(transforms.mean))
    assert torch.equal(view.std.flatten(), torch.tensor(transforms.std))
    names = weights.meta["categories"]
    assert names is None or [name for _, name in found.classes] == names


def test_a_models_default_weights_come_first():
    first = {row.network: row.keyword for row in reversed(torchvision_models.pretrained_files())}
    assert set(first) == {f"torchvision:{model}" for model in models.list_models(module=models)}
    for network, keyword in first.items():
        assert models.get_model_weights(network.removeprefix("torchvision:")).DEFAULT.name == keyword


def smaller_than(parameters):
    return [
        model
        for model in models.list_models(module=models)
        if models.get_model_weights(model).DEFAULT.meta["num_params"] < parameters
    ]


@pytest.mark.parametrize("model", smaller_than(1.2e7))
def test_the_last_tensor_counts_the_classes(model):
    architecture = torchvision_models.architecture(model)
    state = build_empty(architecture.build, replace(architecture.options, classes=1009)).state_dict()
    assert next(name for name in state if 1009 in state[name].shape) == architecture.last_weight
    assert state[architecture.last_weight].shape[0] == 1009
    trunk = build_empty(architecture.build, replace(architecture.options, classes=0)).state_dict()
    assert set(state) - set(trunk) == {name for name in state if name.startswith(architecture.classifier_prefix)}


def test_an_untrained_model_is_the_same_every_time():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load("torchvision:squeezenet1_1:random")
    assert torch.equal(torch.rand(3), expected)
    assert first.full_name == "torchvision:squeezenet1_1 (untrained, seed 0)"
    assert load("torchvision:squeezenet1_1", "random").digest == first.digest
    assert load("torchvision:inception_v3:random").preprocessing.resize == 342


def test_a_model_is_described_by_its_trace():
    found = describe_network("torchvision:resnet18")
    assert found["weights"] == ["IMAGENET1K_V1", "PATH", "random"]
    assert found["layers"][0] == {"name": "relu", "units": 64, "map": [112, 112], "field": [7, 7]}
    assert found["layers"][1]["name"] == "layer1.0.relu#1"
    assert len(found["layers"]) == 17
    assert describe_network("torchvision:regnet_y_400mf")["input"] == 224


def test_a_model_that_never_rectifies_is_refused_before_it_is_downloaded(monkeypatch):
    monkeypatch.setattr(loading, "download", lambda _: pytest.fail("it should not have come to this"))
    with pytest.raises(DeconvnetError, match="No ReLU was met"):
        load("torchvision:convnext_tiny")


@pytest.mark.parametrize(
    ("name", "saying"),
    [
        ("torchvision:resnet19", "torchvision has no classification model 'resnet19': did you mean resnet18, "),
        ("torchvision:ResNet18", "did you mean resnet18, "),
        ("torchvision:fcn_resnet50", "no classification model 'fcn_resnet50': did you mean "),
        ("torchvision:", "there are alexnet, convnext_base"),
        ("resnet18", "there are alexnet, .*, torchvision:MODEL, timm:MODEL and FILE.py:FUNCTION"),
    ],
)
def test_an_unknown_model_lists_similar_ones(name, saying):
    with pytest.raises(UsageError, match=saying):
        load(name)


def test_an_unknown_entry_lists_those_there_are():
    sentence = refusal("torchvision:resnet50:IMAGENET1K_V3")
    assert "has no weights 'IMAGENET1K_V3'" in sentence
    assert sentence.endswith("there are IMAGENET1K_V2, IMAGENET1K_V1, PATH, random.")


def test_torchvision_is_not_imported_before_it_is_needed():
    code = "import sys, deconvnet; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
