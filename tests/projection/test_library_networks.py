"""Families of networks of timm and transformers, with random weights: each equal to the oracle, or refused for a reason."""

from contextlib import nullcontext

import pytest
import timm
import torch
import transformers
from torch import nn

from deconvnet import DeconvnetError, DeconvnetWarning, Network, project, torchvision_preprocessing
from helpers.projection_checks import check_all, randomised
from oracles.hand_placed_rules import with_rules


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


#: timm's: input size, number of layers, and the functions without a rule on the way down, of which a warning speaks.
TIMM = [
    slow("resnet18", 64, 17, ""),
    ("resnet10t", 64, 11, ""),  # ResNet-D: deep stem, pooling in the shortcut
    slow("resnet26d", 64, 27, ""),
    slow("resnext50_32x4d", 64, 49, ""),
    slow("res2net50_26w_4s", 64, 81, ""),
    slow("resnest14d", 64, 19, "mul, softmax"),
    slow("seresnet50", 64, 65, "mul, sigmoid"),
    ("skresnet18", 64, 33, "mul, softmax"),
    slow("ecaresnet26t", 64, 27, "mul, sigmoid"),
    slow("resnetblur18", 64, 17, ""),
    slow("densenet121", 32, 121, ""),
    slow("vgg11_bn", 32, 10, ""),
    slow("inception_v3", 96, 94, ""),
    slow("inception_v4", 96, 149, ""),
    slow("inception_resnet_v2", 96, 243, ""),
    slow("legacy_xception", 64, 35, ""),
    slow("xception41", 64, 44, ""),
    slow("regnetx_002", 64, 40, ""),
    slow("regnety_002", 64, 53, "mul, sigmoid"),
    slow("dla34", 64, 33, ""),
    slow("hrnet_w18_small", 64, 75, ""),
    ("ghostnet_100", 64, 42, "hardsigmoid, mul"),
    slow("ese_vovnet19b_dw", 64, 23, "hardsigmoid, mul"),
    slow("dpn68", 64, 72, ""),
    ("nf_resnet26", 64, 25, ""),  # weights standardised by batch_norm
    slow("resnetv2_50", 64, 49, ""),
    slow("resnetv2_50x1_bit", 64, 49, "group_norm"),  # BiT
    slow("selecsls42", 64, 41, ""),
    slow("repvgg_a2", 64, 22, ""),
    slow("mobilenetv2_100", 64, 35, ""),
]

#: Families whose activation functions let negative values through, which has no rule.
OTHER_ACTIVATIONS = [
    ("cspresnet50", "leaky_relu"),
    ("darknet53", "leaky_relu"),
    ("convnext_atto", "gelu"),
    ("nf_regnet_b0", "silu"),
    ("mobilenetv3_small_050", "hardswish"),
]


def warned(functions):
    """Expects the warning that names `functions`, or none, which would be an error (pyproject.toml)."""
    return pytest.warns(DeconvnetWarning, match=f"gates or the like \\({functions}\\)") if functions else nullcontext()


def timm_module(name):
    module = timm.create_model(name, num_classes=10)
    if isinstance(module, timm.models.vgg.VGG):  # the original has a hundred million weights there
        module.pre_logits, module.head.fc = timm.models.vgg.ConvMlp(512, 64, 7), nn.Linear(64, 10)
    module.pretrained_cfg = {}  # it is shown noise, whatever mean timm's weights expect
    module = randomised(module)
    for parameter in module.parameters():
        if parameter.numel() == 1:  # gains that start at 0, at which a branch is cut off
            nn.init.uniform_(parameter, 0.5, 1.5)
    return module


@pytest.mark.parametrize(("name", "size", "layers", "functions"), TIMM)
def test_timms_families_are_projected_as_by_the_oracle(name, size, layers, functions):
    torch.manual_seed(0)
    module = timm_module(name)
    with warned(functions):
        names = check_all(module, with_rules(module), size, every=max(1, layers // 3))
    assert len(names) == layers


def check_refused(module, function):
    """The deconvnet of the last layer is refused by the name of an activation function."""
    network = Network(module, torchvision_preprocessing(64, 64))
    with pytest.raises(DeconvnetError, match=f"^This network uses {function}, for which the paper has no rule"):
        project(network, torch.randn(1, 3, 64, 64), layer=list(network.layers)[-1], unit=0)


@pytest.mark.parametrize(("name", "function"), OTHER_ACTIVATIONS)
@pytest.mark.filterwarnings("ignore:The way down")
def test_families_without_a_rule_are_refused_by_the_name_of_their_activation_function(name, function):
    check_refused(timm_module(name).float(), function)


#: transformers': number of layers, and the functions without a rule.
TRANSFORMERS = [
    ("resnet", 16, ""),
    slow("regnet-x", 16, ""),
    slow("regnet-y", 21, "mul, sigmoid"),
    slow("mobilenet-v1", 27, ""),
    slow("mobilenet-v2", 35, ""),
    slow("bit", 13, "group_norm"),
]


def transformers_module(name):
    """A small classifier with random weights."""
    small = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 2, 1, 1]}
    match name:
        case "resnet":
            configuration = transformers.ResNetConfig(**small)
            return transformers.ResNetForImageClassification(configuration)
        case "regnet-x" | "regnet-y":
            layer_type = name[-1]
            configuration = transformers.RegNetConfig(**small, layer_type=layer_type, groups_width=8)
            return transformers.RegNetForImageClassification(configuration)
        case "mobilenet-v1":
            configuration = transformers.MobileNetV1Config(depth_multiplier=0.25, image_size=64)
            return transformers.MobileNetV1ForImageClassification(configuration)
        case "mobilenet-v2":
            configuration = transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=64)
            return transformers.MobileNetV2ForImageClassification(configuration)
        case "bit":
            configuration = transformers.BitConfig(hidden_sizes=[128, 128, 128], depths=[1, 2, 1], embedding_size=32)
            return transformers.BitForImageClassification(configuration)
        case "levit":
            configuration = transformers.LevitConfig(
                image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], key_dim=[8, 8, 8]
            )
            return transformers.LevitForImageClassification(configuration)
    raise AssertionError(name)


@pytest.mark.parametrize(("name", "layers", "functions"), TRANSFORMERS)
def test_families_of_transformers_are_projected_as_by_the_oracle(name, layers, functions):
    torch.manual_seed(0)
    module = randomised(transformers_module(name))
    with warned(functions):
        names = check_all(module, with_rules(module), 64, every=max(1, layers // 3))
    assert len(names) == layers


@pytest.mark.filterwarnings("ignore:The way down")
def test_levit_is_refused_by_the_name_of_its_activation_function():
    with pytest.warns(DeconvnetWarning, match="no layer of network"):  # tokens, not maps
        check_refused(transformers_module("levit"), "hardswish")
