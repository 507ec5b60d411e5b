"""Training with `precision = "bfloat16"`: convolutions and matrix products in bfloat16, all else in float32."""

import csv
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from deconvnet.data import find_images, read_image
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.models import ARCHITECTURES, load
from deconvnet.projection import project
from deconvnet.tracing import cpu_kernels
from deconvnet.training import train, trainer
from helpers.small_network import make_small_network
from helpers.small_training import RECIPE, SMALL, write_photos

BFLOAT16 = replace(RECIPE, precision="bfloat16", dropout=0.0)


@pytest.fixture(autouse=True)
def _small_zfnet(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@contextmanager
def dtypes_of_products():
    """Yields how many outputs of convolutions and matrix products have which dtype, by whether the module is in training."""
    counted = Counter()

    def count(module, _, output):
        if isinstance(module, nn.Conv2d | nn.Linear):
            counted[module.training, output.dtype] += 1

    handle = register_module_forward_hook(count)
    try:
        yield counted
    finally:
        handle.remove()


def test_the_first_ten_losses_are_those_of_float32_but_for_rounding(photos, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        run = train("zfnet", photos, tmp_path / precision, replace(BFLOAT16, precision=precision), device="cpu").parent
        with (run / "steps.csv").open() as file:
            losses[precision] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses["bfloat16"]) == len(losses["float32"]) >= 10
    assert losses["bfloat16"][:10] == pytest.approx(losses["float32"][:10], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]


def test_only_products_are_computed_in_bfloat16(photos, tmp_path, monkeypatch):
    parameters, losses = set(), set()
    renormalise, cross_entropy = trainer.renormalise_filters, trainer.F.cross_entropy

    def after_a_step(module, max_rms):
        for parameter in module.parameters():
            parameters.update((parameter.dtype, parameter.grad.dtype))
        renormalise(module, max_rms)

    def loss(logits, *arguments, **options):
        result = cross_entropy(logits, *arguments, **options)
        losses.add((logits.dtype, result.dtype, torch.is_autocast_enabled("cpu")))
        return result

    monkeypatch.setattr(trainer, "renormalise_filters", after_a_step)
    monkeypatch.setattr(trainer.F, "cross_entropy", loss)
    with dtypes_of_products() as products:
        file = train("zfnet", photos, tmp_path / "run", replace(BFLOAT16, epochs=1), device="cpu")
    assert parameters == {torch.float32}
    assert losses == {(torch.float32, torch.float32, False)}
    assert products.keys() >= {(True, torch.bfloat16), (False, torch.bfloat16)}  # steps and validation
    assert (True, torch.float32) not in products
    assert {parameter.dtype for parameter in load("zfnet", file).module.parameters()} == {torch.float32}


def test_what_follows_in_the_same_process_is_computed_in_float32(photos, tmp_path):
    network = load("zfnet", train("zfnet", photos, tmp_path / "float32", RECIPE, device="cpu"))
    x = network.preprocess(read_image(find_images(photos / "val").file(0)))[None]

    def results():
        errors = evaluate([network], photos / "val", 1).networks[0]
        projection = torch.as_tensor(project(network, x, layer="conv3", unit=1))
        return errors, projection, network.output(x)

    before = results()
    train("zfnet", photos, tmp_path / "bfloat16", replace(BFLOAT16, epochs=1), device="cpu")
    assert not torch.is_autocast_enabled("cpu")
    with dtypes_of_products() as products:
        after = results()
    assert {dtype for _, dtype in products} == {torch.float32}
    assert after[0] == before[0]
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


def test_under_autocast_onednns_product_is_not_used(monkeypatch):
    """It takes float32 only, and autocast does not reach its arguments."""
    network = make_small_network()
    x = torch.randn(2, 3, 32, 32)
    plain = network.activations(x, "fc3")

    def used(*_):
        raise AssertionError("it is used")

    monkeypatch.setattr(cpu_kernels, "_ONEDNN_LINEAR", used)
    with pytest.raises(DeconvnetError, match="it is used"):
        network.activations(x, "fc3")
    with BFLOAT16.autocast(torch.device("cpu")):
        rounded = network.activations(x, "fc3")
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), plain, rtol=0.05, atol=0.05 * float(plain.max()))
