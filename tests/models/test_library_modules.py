"""What libraries attach to their modules and weights: names of classes and preprocessing."""

import pytest
import timm
import torch
import transformers
from torch import nn
from torchvision import models

from deconvnet import DeconvnetWarning, Network, torchvision_preprocessing
from deconvnet.data import imagenet_classes

WEIGHTS = models.ShuffleNet_V2_X0_5_Weights.DEFAULT


def named(module, source=None, **more):
    return Network(module, source or torchvision_preprocessing(), **more).classes


def shufflenet(classes=1000):
    return models.shufflenet_v2_x0_5(num_classes=classes)


def test_torchvisions_weights_name_the_classes_of_a_module_that_has_as_many():
    assert named(shufflenet(), WEIGHTS) == imagenet_classes()
    assert named(shufflenet(7), WEIGHTS) is None
    replaced = shufflenet()
    replaced.fc = nn.Sequential(nn.Dropout(), nn.Linear(1024, 7))
    assert named(replaced, WEIGHTS) is None
    assert named(shufflenet()) is None


def test_timms_modules_name_imagenets_classes_if_they_have_as_many():
    assert named(timm.create_model("resnet10t")) == imagenet_classes()
    assert named(timm.create_model("resnet10t", num_classes=7)) is None
    module = timm.create_model("resnet10t", num_classes=2)
    module.pretrained_cfg = {**module.pretrained_cfg, "label_names": ["n1", "n2"], "label_descriptions": {"n2": "a thing"}}
    assert named(module) == (("n1", "n1"), ("n2", "a thing"))


@pytest.mark.parametrize("labels", [{0: "cat", 1: "dog"}, None])
def test_classifiers_of_transformers_name_theirs(labels):
    options = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "num_labels": 2}
    config = transformers.ResNetConfig(**options, **({"id2label": labels} if labels else {}))
    expected = (("", "cat"), ("", "dog")) if labels else None  # LABEL_0 is no name
    assert named(transformers.ResNetForImageClassification(config)) == expected


def test_names_that_are_given_count_and_a_trunk_has_none():
    classes = [("", f"thing {number}") for number in range(1000)]
    assert named(shufflenet(), WEIGHTS, classes=classes) == tuple(classes)
    assert named(shufflenet(), WEIGHTS, classifies=False) is None


def test_the_outputs_of_a_classifier_of_transformers_are_its_logits():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=5)
    module = transformers.ResNetForImageClassification(config).eval()
    network = Network(module, torchvision_preprocessing(64, 64))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.output(x), module(x).logits)
    assert network.classifies


def test_another_mean_than_timm_states_is_said_once():
    module = timm.create_model("inception_v3.tf_adv_in1k", num_classes=2)
    Network(module, timm.data.resolve_model_data_config(module))
    with pytest.warns(DeconvnetWarning) as caught:
        Network(module, torchvision_preprocessing(342, 299), name="mine")
    assert [str(warning.message).split(": pass timm")[0] for warning in caught] == [
        "mine is shown images with a mean of (0.485, 0.456, 0.406), but timm states (0.5, 0.5, 0.5)",
        "mine is shown images with a std of (0.229, 0.224, 0.225), but timm states (0.5, 0.5, 0.5)",
    ]
    Network(timm.create_model("resnet10t"), torchvision_preprocessing())
