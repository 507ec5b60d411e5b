"""How often the program waits for its device: as rarely as the work allows, because a GPU idles meanwhile."""

import pytest
import torch

import deconvnet
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.mining import mine
from helpers.emulated_accelerator import emulated


def test_mining_waits_once_per_batch_whatever_the_number_of_layers(inputs):
    def waits(batch_size: int, layers: list[str]) -> int:
        with emulated() as counted:
            network = deconvnet.load(f"{inputs}/networks.py:one").to("emu")
            mine(network, inputs / "photos" / "val", layers, batch_size=batch_size)
            return counted.total()

    for layers in (["conv1"], ["conv1", "conv2", "fc3"]):
        few, many = waits(12, layers), waits(2, layers)  # one batch, six
        assert many - few == 5


def test_evaluating_waits_once_per_batch_whatever_the_number_of_views(inputs):
    def waits(batch_size: int, views: int) -> int:
        with emulated() as counted:
            network = deconvnet.load(f"{inputs}/networks.py:one").to("emu")
            evaluate([network], inputs / "photos" / "val", views, batch_size=batch_size)
            return counted.total()

    for views in (1, 10):
        assert waits(2, views) - waits(12, views) == 5  # six batches, one


@pytest.mark.parametrize("wrong", ["x", "weight"])
def test_mixing_devices_is_refused(wrong):
    """As on CUDA; else a test on this device would prove nothing."""
    with emulated():
        x, weight = torch.ones(1, 3, 8, 8), torch.ones(2, 3, 3, 3)
        x, weight = (x, weight.to("emu")) if wrong == "x" else (x.to("emu"), weight)
        with pytest.raises(RuntimeError, match="expected all tensors on emu:0"):
            torch.nn.functional.conv2d(x, weight)
