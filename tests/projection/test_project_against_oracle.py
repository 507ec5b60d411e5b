"""The projection equals the plain deconvnet of `oracles` at every layer of every network, in float32 and float64.

Under the paper's rules on networks of full size; under all rules on small ones.
"""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from deconvnet.data import find_images, read_image, torchvision_preprocessing
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import (
    AlexNet2012,
    AlexNetOptions,
    Network,
    ZFNet,
    ZFNetOptions,
    load,
)
from deconvnet.projection import RULES, project_batch
from oracles import plain_deconvnet as plain

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def livelier(module):
    """Weights whose activations do not fade from layer to layer, so that every layer has something to project."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
            torch.nn.init.normal_(part.bias, std=0.1)
    return module.eval()


# Strong enough a normalisation to matter on small random inputs.
CONSTANTS = LRNConstants(n=5, alpha=0.3, beta=0.75, k=1.0)

#: A module with random weights, its input size, and its plain steps.
RANDOM = {
    "alexnet2012": lambda: livelier(AlexNet2012(AlexNetOptions(classes=10, hidden=24, contrast=CONSTANTS))),
    "zfnet": lambda: livelier(ZFNet(ZFNetOptions(classes=10, hidden=24))),
    "zfnet, norm first": lambda: livelier(ZFNet(ZFNetOptions(classes=10, hidden=24, order="norm-pool"))),
    "torchvision's alexnet": lambda: torchvision.models.alexnet(weights=None).eval(),
}
STEPS = {
    "alexnet2012": lambda module: plain.alexnet2012_steps(module, 5, 0.3, 0.75, 1.0),
    "zfnet": plain.zfnet_steps,
    "zfnet, norm first": lambda module: plain.zfnet_steps(module, pool_first=False),
    "torchvision's alexnet": plain.torchvision_alexnet_steps,
}


def network_of(module, crop):
    return Network(module, torchvision_preprocessing(crop=crop), layer_names=LAYERS)


def places(rows, columns):
    """Corners, edges and the middle of a feature map."""
    return sorted(
        {(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (0, columns // 2), (rows // 2, columns // 2)}
    )


def turned(network, steps, x):
    """How many windows of 3×3 find their maximum elsewhere, or a ReLU another sign, than in the oracle."""
    count, layers = 0, plain.forward(steps, x)
    for index, name in enumerate(network.layers):
        maps = layers[index]
        found = network.activations(x, name).view_as(maps)
        count += int(((found > 0) != (maps > 0)).sum())
        if maps.dim() == 4 and min(maps.shape[2:]) >= 3:
            one, other = (F.max_pool2d(each, 3, 2, ceil_mode=True, return_indices=True)[1] for each in (found, maps))
            count += int((one != other).sum())
    return count


def undisturbed(network, steps, inputs):
    """The first of `inputs` in which float32's rounding turns no switch and no ReLU: processors add in different orders, and
    one that is turned moves a projection by per cents, of which neither side is wrong.
    """
    return next(x for x in inputs if not turned(network, steps, x))


def check_all_layers(network, steps, x, tolerance, rules="deconvnet"):
    layers = plain.forward(steps, x)
    for index, (name, layer) in enumerate(network.layers.items()):
        maps = layers[index]
        found = network.activations(x, name).view_as(maps)
        assert (found - maps).norm() <= tolerance * maps.norm()
        where = places(*layer.map_size)
        units = [int(maps[0, :, row, column].argmax()) for row, column in where]  # one that is active there
        got = project_batch(
            network, x.expand(len(where), -1, -1, -1), name, torch.tensor(units), torch.tensor(where), rules=rules
        )
        for number, (unit, (row, column)) in enumerate(zip(units, where, strict=True)):
            assert maps[0, unit, row, column] > 0
            want = plain.project(steps, layers, index, unit, row, column)[0]
            error = (got.pixels[number] - want).norm() / want.norm()
            assert error <= tolerance, f"{name} unit {unit} at {row},{column}: {error:.1e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", RANDOM)
@torch.no_grad()
def test_random_networks(name, dtype):
    module = RANDOM[name]().to(dtype)
    crop = 227 if name == "alexnet2012" else 224
    network, steps = network_of(module, crop), STEPS[name](module)
    inputs = (torch.randn(1, 3, crop, crop, dtype=dtype) for _ in range(50))
    check_all_layers(network, steps, undisturbed(network, steps, inputs), TOLERANCE[dtype])


def small_network(pool_first):
    """Overlapping pools, groups and a strong normalisation on 39×39 pixels, with its plain steps."""
    convolutions = [nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.Conv2d(12, 10, 3, padding=1)]
    parts, steps = [], []
    for convolution in convolutions:
        norm, pool = nn.LocalResponseNorm(5, 0.5, 0.75, 1.0), nn.MaxPool2d(3, 2, ceil_mode=True)
        parts += [convolution, nn.ReLU(), *((pool, norm) if pool_first else (norm, pool))]
        after = [plain.Pool(3, 2), plain.Normalise(5, 0.5, 0.75, 1.0)]
        steps += [plain.Convolve(convolution), plain.Rectify(), *(after if pool_first else reversed(after))]
    return livelier(nn.Sequential(*parts)).double(), steps


# "torch's unpooling" shows that it writes in row-major order on a CPU, as `overwrite` promises.
@pytest.mark.parametrize("convention", plain.CONVENTIONS)
@pytest.mark.parametrize("pool_first", [True, False], ids=["pool first", "norm first"])
@torch.no_grad()
def test_all_rules_on_small_networks(convention, pool_first):
    module, steps = small_network(pool_first)
    network = Network(module, torchvision_preprocessing(39, 39), layer_names=["conv1", "conv2", "conv3"])
    rules = "overwrite" if convention == "torch's unpooling" else convention
    x = torch.randn(1, 3, 39, 39, dtype=torch.float64)
    check_all_layers(network, plain.under(convention, steps), x, 1e-10, rules)


def test_every_rule_set_has_an_oracle():
    assert set(RULES) < set(plain.CONVENTIONS)


@pytest.mark.data
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@torch.no_grad()
def test_trained_alexnet_on_real_photos(data: Path, dtype):
    network = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    network = Network(deepcopy(network.module).to(dtype), network.preprocessing)
    steps = plain.alexnet2012_steps(network.module, 5, 1e-4, 0.75, 1.0)
    photos = find_images(data / "imagenette" / "val")
    for first in (0, 2000):
        inputs = (network.preprocess(read_image(photos.file(first + n)))[None].to(dtype) for n in range(20))
        check_all_layers(network, steps, undisturbed(network, steps, inputs), TOLERANCE[dtype])


@pytest.mark.data
@pytest.mark.parametrize("rules", RULES)
@torch.no_grad()
def test_all_rules_on_trained_alexnet(data: Path, rules):
    network = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    network = Network(deepcopy(network.module).double(), network.preprocessing)
    steps = plain.under(rules, plain.alexnet2012_steps(network.module, 5, 1e-4, 0.75, 1.0))
    photos = find_images(data / "imagenette" / "val")
    x = network.preprocess(read_image(photos.file(1000)))[None].double()
    check_all_layers(network, steps, x, 1e-10, rules)
