"""How often the program waits for its device: as rarely as the work allows, because a GPU idles meanwhile."""

import sys
import threading

import pytest
import torch

import deconvnet
from deconvnet.atlas import project_units as projecting
from deconvnet.data import Batch, find_images, read_image, upload
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.experiments.look import look
from deconvnet.experiments.table2_errors import compute as evaluating
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


def load_on_emu(inputs):
    """A network on the device, of which all is known that is found out at first use, and an image."""
    network = deconvnet.load(f"{inputs}/networks.py:one").to("emu")
    image = read_image(find_images(inputs / "photos" / "val").file(0))
    look(network, image)
    return network, image


def test_projecting_waits_as_often_for_many_images_as_for_one(inputs):
    with emulated() as counted:
        network, image = load_on_emu(inputs)
        x = network.preprocess(image)[None]

        def waits(count: int) -> int:
            counted.clear()
            deconvnet.project(network, x.expand(count, -1, -1, -1), layer="conv2", unit=3)
            return counted.total()

        assert waits(1) == waits(32) <= 5
        assert waits(64) == 2 * waits(32)  # batches are of 32


def test_projecting_hits_waits_a_few_times_per_batch_whatever_the_number_of_hits(inputs):
    with emulated() as counted:
        network, _ = load_on_emu(inputs)
        hits = mine(network, inputs / "photos" / "val")["conv2"]

        def waits(batch_size: int) -> int:
            counted.clear()
            assert len(list(projecting.project_units(network, hits, [0, 1, 2, 3], batch_size=batch_size))) == 4
            return counted.total()

        count = int((hits.topk.images[:4] >= 0).sum())
        for batch_size in (count, 2):
            assert waits(batch_size) <= 6 * 2 * -(-count // (2 * batch_size))  # batches are even in number


def test_occluding_waits_twice_per_batch_whatever_the_number_of_positions(inputs):
    with emulated() as counted:
        network, image = load_on_emu(inputs)
        x, occluder = network.preprocess(image), Occluder(20, 9)
        corners = occluder.corners(64)
        for count in (1, 25):
            counted.clear()
            forward_occluded_in_batches(network, x, occluder, corners[:count], "conv2", 3)
            assert counted.total() <= 2


def test_a_look_waits_a_few_times_per_layer_whatever_the_number_of_units(inputs):
    with emulated() as counted:
        network, image = load_on_emu(inputs)

        def waits(units: int) -> int:
            counted.clear()
            look(network, image, units=units)
            return counted.total()

        assert waits(1) == waits(5) <= 2 + 8 * len(network.layers)


def test_batches_are_pinned_where_they_are_read_and_uploaded_where_they_are_computed_with(inputs, monkeypatch):
    calls = []
    pin = Batch.pinned_for

    def pinned_for(batch: Batch, device: torch.device) -> Batch:
        calls.append(("pin", str(device), threading.current_thread() is threading.main_thread()))
        return pin(batch, device)

    def recorded_upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        calls.append(("upload", str(device), threading.current_thread() is threading.main_thread()))
        return upload(tensor, device)

    monkeypatch.setattr(Batch, "pinned_for", pinned_for)
    for module in (sys.modules["deconvnet.models.input_reader"], evaluating):
        monkeypatch.setattr(module, "upload", recorded_upload)
    photos = inputs / "photos" / "val"
    with emulated():
        network, _ = load_on_emu(inputs)
        hits = mine(network, photos, batch_size=6)["conv1"]
        for work in (
            lambda: mine(network, photos, batch_size=6),
            lambda: list(projecting.project_units(network, hits, [0], batch_size=6)),
            lambda: evaluate([network], photos, 1, batch_size=6),
        ):
            calls.clear()
            work()
            assert set(calls) == {("pin", "emu:0", False), ("upload", "emu:0", True)}
            assert len(calls) == 4  # two batches


@pytest.mark.parametrize("wrong", ["x", "weight"])
def test_mixing_devices_is_refused(wrong):
    """As on CUDA; without this, a test on this device would prove nothing."""
    with emulated():
        x, weight = torch.ones(1, 3, 8, 8), torch.ones(2, 3, 3, 3)
        x, weight = (x, weight.to("emu")) if wrong == "x" else (x.to("emu"), weight)
        with pytest.raises(RuntimeError, match="expected all tensors on emu:0"):
            torch.nn.functional.conv2d(x, weight)


def test_float64_is_refused():
    """As on Apple's GPUs."""
    with emulated():
        x = torch.ones(3).to("emu")
        for to_float64 in (x.double, lambda: torch.zeros(3, dtype=torch.float64, device="emu")):
            with pytest.raises(TypeError, match="does not have float64"):
                to_float64()


def test_what_a_mask_chooses_is_waited_for():
    with emulated() as counted:
        x = torch.ones(3).to("emu")
        assert len(x[x > 0]) == 3
        assert counted.total() == 1
