"""Comparing every so many layers of a network with autograd with the rules inserted by hand, in float64."""

from functools import partial

import torch
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network
from deconvnet.projection import project_batch
from oracles.hand_placed_rules import Deconvnet


def randomised(module):
    """The module in float64, with weights that keep activations from fading and non-trivial batch statistics."""
    module = module.to_empty(device="cpu") if next(module.parameters()).is_meta else module
    for submodule in module.double().eval().modules():
        if isinstance(submodule, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(submodule.weight)
            if submodule.bias is not None:
                nn.init.normal_(submodule.bias, std=0.1)
        elif isinstance(submodule, nn.BatchNorm2d | nn.BatchNorm1d | nn.GroupNorm):
            nn.init.uniform_(submodule.weight, 0.5, 1.5)
            nn.init.normal_(submodule.bias, std=0.3)
            if not isinstance(submodule, nn.GroupNorm):
                nn.init.normal_(submodule.running_mean, std=0.3)
                nn.init.uniform_(submodule.running_var, 0.5, 2.0)
    return module


def check(network, x, name, maps, project):
    """Activations and projections at three positions of a layer, in one batch, are those of the oracle to 1e-10.

    `maps` is (units, rows, columns), `project` (unit, row, column) → (3, H, W).
    """
    actual = network.activations(x, name).view_as(maps)
    assert (actual - maps).norm() <= 1e-10 * maps.norm()
    _, rows, columns = maps.shape
    positions = sorted({(0, 0), (rows // 2, columns // 2), (rows - 1, columns // 3)})
    positions = [(row, column) for row, column in positions if maps[:, row, column].max() > 0]
    assert positions
    units = [int(maps[:, row, column].argmax()) for row, column in positions]  # one that is active there
    got = project_batch(network, x.expand(len(positions), -1, -1, -1), name, torch.tensor(units), torch.tensor(positions))
    for index, (unit, (row, column)) in enumerate(zip(units, positions, strict=True)):
        want = project(unit, row, column)
        assert want.norm() > 0
        error = (got.pixels[index] - want).norm() / want.norm()
        assert error <= 1e-10, f"{name} unit {unit} at {row},{column}: {error:.1e}"


def check_all(module, run, size, every=1):
    """Compare every `every`-th layer of `module` with `run`, which applies the rules; returns the names of all layers."""
    network = Network(module, torchvision_preprocessing(size, size))
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    oracle = Deconvnet(run, x)
    names = list(network.layers)
    assert len(names) == len(oracle.maps)
    for index in sorted({*range(0, len(names), every), len(names) - 1}):
        maps = oracle.maps[index].detach()[0]
        check(network, x, names[index], maps.view(len(maps), *maps.shape[1:] or (1, 1)), partial(oracle.project, index))
    return names
