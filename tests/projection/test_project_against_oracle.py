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
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, ZFNet, ZFNetOptions, load
from deconvnet.projection import RULES, project_batch
from oracles import plain_deconvnet as plain

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def initialise(module):
    """Weights that keep activations from fading from layer to layer, so that every layer has something to project."""
    for submodule in module.modules():
        if isinstance(submodule, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(submodule.weight)
            torch.nn.init.normal_(submodule.bias, std=0.1)
    return module.eval()


# Strong enough a normalisation to matter on small random inputs.
CONSTANTS = LRNConstants(n=5, alpha=0.3, beta=0.75, k=1.0)

#: A module with random weights, its input size, and its plain steps.
RANDOM = {
    "alexnet2012": lambda: initialise(AlexNet2012(AlexNetOptions(classes=10, hidden=24, contrast=CONSTANTS))),
    "zfnet": lambda: initialise(ZFNet(ZFNetOptions(classes=10, hidden=24))),
    "zfnet, norm first": lambda: initialise(ZFNet(ZFNetOptions(classes=10, hidden=24, order="norm-pool"))),
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


def some_positions(rows, columns):
    """Corners, edges and the middle of a feature map."""
    return sorted(
        {(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (0, columns // 2), (rows // 2, columns // 2)}
    )


def rounding_flips(network, steps, x):
    """How many windows of 3×3 have another switch, or ReLUs another sign, than in the oracle."""
    count, layers = 0, plain.forward(steps, x)
    for index, name in enumerate(network.layers):
        maps = layers[index]
        actual = network.activations(x, name).view_as(maps)
        count += int(((actual > 0) != (maps > 0)).sum())
        if maps.dim() == 4 and min(maps.shape[2:]) >= 3:
            switches, expected = (
                F.max_pool2d(tensor, 3, 2, ceil_mode=True, return_indices=True)[1] for tensor in (actual, maps)
            )
            count += int((switches != expected).sum())
    return count


def without_flips(network, steps, inputs):
    """The first of `inputs` in which rounding flips no switch and no ReLU: processors sum in different orders, and a single
    flip changes a projection by several per cent without either side being wrong.
    """
    return next(x for x in inputs if not rounding_flips(network, steps, x))


def check_all_layers(network, steps, x, tolerance, rules="deconvnet"):
    layers = plain.forward(steps, x)
    for layer_index, (name, layer) in enumerate(network.layers.items()):
        maps = layers[layer_index]
        actual = network.activations(x, name).view_as(maps)
        assert (actual - maps).norm() <= tolerance * maps.norm()
        positions = some_positions(*layer.map_size)
        units = [int(maps[0, :, row, column].argmax()) for row, column in positions]  # one that is active there
        got = project_batch(
            network, x.expand(len(positions), -1, -1, -1), name, torch.tensor(units), torch.tensor(positions), rules=rules
        )
        for index, (unit, (row, column)) in enumerate(zip(units, positions, strict=True)):
            assert maps[0, unit, row, column] > 0
            want = plain.project(steps, layers, layer_index, unit, row, column)[0]
            error = (got.pixels[index] - want).norm() / want.norm()
            assert error <= tolerance, f"{name} unit {unit} at {row},{column}: {error:.1e}"


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("name", RANDOM)
@torch.no_grad()
def test_random_networks(name, dtype):
    module = RANDOM[name]().to(dtype)
    crop = 227 if name == "alexnet2012" else 224
    network, steps = network_of(module, crop), STEPS[name](module)
    inputs = (torch.randn(1, 3, crop, crop, dtype=dtype) for _ in range(50))
    check_all_layers(network, steps, without_flips(network, steps, inputs), TOLERANCE[dtype])


def small_network(pool_first):
    """Overlapping pools, groups and a strong normalisation on 39×39 pixels, with its plain steps."""
    convolutions = [nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.Conv2d(12, 10, 3, padding=1)]
    modules, steps = [], []
    for convolution in convolutions:
        norm, pool = nn.LocalResponseNorm(5, 0.5, 0.75, 1.0), nn.MaxPool2d(3, 2, ceil_mode=True)
        modules += [convolution, nn.ReLU(), *((pool, norm) if pool_first else (norm, pool))]
        after = [plain.Pool(3, 2), plain.Normalise(5, 0.5, 0.75, 1.0)]
        steps += [plain.Convolve(convolution), plain.Rectify(), *(after if pool_first else reversed(after))]
    return initialise(nn.Sequential(*modules)).double(), steps


# "torch's unpooling" checks that torch writes in row-major order on a CPU, as `overwrite` promises.
@pytest.mark.parametrize("convention", plain.CONVENTIONS)
@pytest.mark.parametrize("pool_first", [True, False], ids=["pool first", "norm first"])
@torch.no_grad()
def test_all_rules_on_small_networks(convention, pool_first):
    module, steps = small_network(pool_first)
    network = Network(module, torchvision_preprocessing(39, 39), layer_names=["conv1", "conv2", "conv3"])
    rules = "overwrite" if convention == "torch's unpooling" else convention
    x = torch.randn(1, 3, 39, 39, dtype=torch.float64)
    check_all_layers(network, plain.with_convention(convention, steps), x, 1e-10, rules)


def test_every_rule_set_has_an_oracle():
    assert set(RULES) < set(plain.CONVENTIONS)


@pytest.mark.data
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@torch.no_grad()
def test_trained_alexnet_on_real_photos(data: Path, dtype):
    network = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    network = Network(deepcopy(network.module).to(dtype), network.preprocessing)
    steps = plain.alexnet2012_steps(network.module, 5, 1e-4, 0.75, 1.0)
    image_set = find_images(data / "imagenette" / "val")
    for first in (0, 2000):
        inputs = (network.preprocess(read_image(image_set.file(first + n)))[None].to(dtype) for n in range(20))
        check_all_layers(network, steps, without_flips(network, steps, inputs), TOLERANCE[dtype])


@pytest.mark.data
@pytest.mark.parametrize("rules", RULES)
@torch.no_grad()
def test_all_rules_on_trained_alexnet(data: Path, rules):
    network = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    network = Network(deepcopy(network.module).double(), network.preprocessing)
    steps = plain.with_convention(rules, plain.alexnet2012_steps(network.module, 5, 1e-4, 0.75, 1.0))
    image_set = find_images(data / "imagenette" / "val")
    x = network.preprocess(read_image(image_set.file(1000)))[None].double()
    check_all_layers(network, steps, x, 1e-10, rules)
