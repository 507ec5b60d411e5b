"""The measured rounding of a network: against what its dtype can do, and on modules that cannot be measured."""

import torch
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network
from deconvnet.models.rounding_error import rounding_errors


def test_it_is_that_of_the_dtype():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 5), nn.ReLU()).eval().to(dtype)
        network = Network(module, torchvision_preprocessing(32, 32), layer_names=["conv1", "conv2"])
        eps = torch.finfo(dtype).eps
        assert all(eps <= error <= 32 * eps for error in rounding_errors(network).values())
        assert next(module.parameters()).dtype == dtype


def test_what_cannot_be_measured_is_assumed():
    class Float32Only(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            assert x.dtype == torch.float32
            return self.conv(x).relu()

    network = Network(Float32Only().eval(), torchvision_preprocessing(16, 16), layer_names=["conv"])
    assert rounding_errors(network) == {"conv": 64 * torch.finfo(torch.float32).eps}


def test_a_dead_layer_is_assumed_to_round_like_any_other():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    nn.init.zeros_(module[0].weight)
    nn.init.constant_(module[0].bias, -1)
    network = Network(module, torchvision_preprocessing(16, 16), layer_names=["conv"])
    assert rounding_errors(network) == {"conv": 64 * torch.finfo(torch.float32).eps}
