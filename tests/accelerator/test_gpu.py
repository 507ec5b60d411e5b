"""On a GPU: the tests of the emulated device that compare it with the CPU, with `cuda` in its place; and training steps.

Training without dropout, whose random numbers are others on a GPU.
"""

import csv
import math
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_device_commands import (  # noqa: F401
    test_a_demo_has_the_same_hits,
    test_a_projection_is_the_same,
    test_a_report_runs_its_commands_on_the_device,
    test_an_atlas_has_the_same_hits_and_pictures,
    test_an_evolution_is_the_same,
    test_an_experiment_has_the_same_result,
    test_evaluate_counts_the_same_errors,
    test_look_has_the_same_picture,
    test_parts_mined_on_either_device_merge,
)
from test_device_functions import test_it_gives_what_it_gives_on_the_cpu  # noqa: F401
from test_device_projection import test_they_equal_the_cpus  # noqa: F401

import deconvnet
from deconvnet.mining import mine
from deconvnet.models import ARCHITECTURES
from deconvnet.tracing import exact_float32
from deconvnet.training import read_recipe, train, trainer
from deconvnet.training.data import TrainingBatch
from deconvnet.training.filter_renormalisation import renormalise_filters
from helpers.small_training import RECIPE, SMALL

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")]

#: Of a wait, as `torch.cuda.set_sync_debug_mode` reports it.
WAIT = "called a synchronizing CUDA operation"


@pytest.fixture
def noise() -> float:
    return 3e-6


@pytest.fixture
def device() -> str:
    return "cuda"


@pytest.fixture
def on_device(noise):  # which some of the tests set
    return counted_waits


class Waits(Counter):
    """What PyTorch reports of waits; it does not see all of them."""

    def __init__(self, caught):
        super().__init__()
        self.caught = caught

    def total(self):
        return sum(WAIT in str(warning.message) for warning in self.caught)


@contextmanager
def counted_waits():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield Waits(caught)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def losses(run):
    with (run / "steps.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 3e-4), ("bfloat16", 0.03)])
def test_the_first_ten_losses_are_the_cpus(small_run, tmp_path, monkeypatch, precision, tolerance):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    recipe = replace(RECIPE, dropout=0.0, precision=precision, channels_last=precision == "bfloat16")
    on_cpu, on_gpu = (
        losses(train("zfnet", small_run / "photos", tmp_path / device, recipe, device=device).parent)
        for device in ("cpu", "cuda")
    )
    assert len(on_gpu) == len(on_cpu) >= 10
    assert on_gpu[:10] == pytest.approx(on_cpu[:10], rel=tolerance)


@pytest.mark.parametrize(("name", "tolerance"), [("paper", 3e-4), ("fast", 0.03)])
def test_a_step_by_a_recipe_has_the_cpus_loss_and_does_not_wait(name, tolerance):
    recipe = replace(read_recipe(name), dropout=0.0, network={"hidden": 32})
    crop, classes = 224, ("ant", "bee", "cat")
    random = np.random.default_rng(0)
    batch = TrainingBatch(
        torch.from_numpy(random.integers(0, 256, (6, crop, crop, 3), dtype=np.uint8)), torch.arange(6) % len(classes)
    )

    def prepared(device):
        module = trainer.untrained_module("zfnet", len(classes), recipe, name, 0)
        mean = np.full((256, 256, 3), 116, np.float32)
        network = trainer.network_to_train("zfnet", module, classes, mean, recipe).to(device)
        network.module.train().to(memory_format=recipe.memory_format(torch.device(device)))
        optimiser = torch.optim.SGD(network.module.parameters(), recipe.learning_rate, recipe.momentum)
        on = torch.device(device)
        ready = batch.pinned_for(torch.device(device))

        def step():
            inputs, targets = ready.to_inputs(network.preprocessing, recipe, on)
            with recipe.autocast(on):
                logits = network.module(inputs).float()
            loss = F.cross_entropy(logits, targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            renormalise_filters(network.module, recipe.max_filter_rms)
            return loss.detach()

        return step

    with exact_float32():
        expected = float(prepared("cpu")())
        step = prepared("cuda")
        first = float(step())
        torch.cuda.set_sync_debug_mode("error")
        try:
            second = step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert first == pytest.approx(expected, rel=tolerance)
    assert math.isfinite(float(second))


def test_training_waits_once_for_several_steps(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    recipe = replace(RECIPE, epochs=1, batch_size=3)

    def waits(per_reading, run):
        monkeypatch.setattr(trainer, "_STEPS_PER_READING", per_reading)
        with counted_waits() as counted:
            train("zfnet", small_run / "photos", tmp_path / run, recipe, device="cuda")
            return counted.total()

    waits(1, "first calls wait more often")
    steps = len(losses(tmp_path / "first calls wait more often"))
    assert waits(1, "one") - waits(steps, "all") == steps - 1


def test_mining_waits_as_often_for_three_layers_as_for_one(inputs):
    network = deconvnet.load(f"{inputs}/networks.py:one").to("cuda")

    def waits(batch_size, layers):
        with counted_waits() as counted:
            mine(network, inputs / "photos" / "val", layers, batch_size=batch_size)
            return counted.total()

    few, many = ["conv1"], ["conv1", "conv2", "fc3"]
    for size in (12, 2):  # first calls wait more often
        waits(size, many)
    more_batches = [waits(2, layers) - waits(12, layers) for layers in (few, many)]  # six batches, one
    print(f"{more_batches[0] / 5:g} waits per batch")
    assert more_batches[0] == more_batches[1] <= 5 * 4
