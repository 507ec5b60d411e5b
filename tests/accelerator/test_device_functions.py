"""Every public function that takes a device, a network or tensors gives on an accelerator what it gives on the CPU."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import deconvnet
from deconvnet.data import find_images, read_image, transform_preprocessing, upload
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded, forward_occluded_in_batches
from deconvnet.models import (
    ARCHITECTURES,
    AlexNet2012,
    AlexNetOptions,
    ZFNet,
    ZFNetOptions,
    activation_cache,
    forward_patched,
    load,
    parallel_map,
    save_weights,
    to_inputs,
    to_pictures,
)
from deconvnet.projection import (
    display_scale,
    picture,
    project_batch,
    strongest_position,
    strongest_unit,
    to_pixels,
)
from deconvnet.training import topk_errors
from helpers.emulated_accelerator import emulated
from helpers.small_training import SMALL

OCCLUDER = Occluder(12, 24)


def captured(network, x):
    maps = {}
    network.capture(x, network.layers, lambda name, output: maps.update({name: output.clone()}))
    return maps


def patched(network, x):
    patches, corners = x[:1, :, :8, :8].expand(3, -1, -1, -1), torch.tensor([[0, 0], [30, 20], [56, 56]])
    return forward_patched(network, x[:1], activation_cache(network, x[:1]), patches, corners, "conv2", 3)


def moved(network, x):
    return network.with_module(network.module).to(x.device).output(x)


def projected(network, x, rules="deconvnet"):
    """On the device, as all that a GPU's owner has there, and on the CPU, as `preprocess` gives it."""
    units, positions = torch.tensor([3, 5]), torch.tensor([[1, 1], [2, 0]])
    on_device = project_batch(network, x, "conv2", units.to(x.device), positions.to(x.device), rules=rules)
    on_cpu = project_batch(network, x.cpu(), "conv2", units, rules=rules)
    return [(batch.pixels, batch.values, batch.crop(network.layer("conv2"))) for batch in (on_device, on_cpu)]


def forward(module, x):
    torch.manual_seed(0)
    return module().eval().to(x.device)(torch.nn.functional.interpolate(x, (224, 224)))


def corners():
    return OCCLUDER.corners(64)


#: By name: what it gives for a network and two of its inputs, both on the device.
CALLS = {
    "AlexNet2012.forward": lambda network, x: forward(lambda: AlexNet2012(AlexNetOptions(hidden=8, classes=3)), x),
    "activation_cache": patched,
    "Network.activations": lambda network, x: [network.activations(x, layer) for layer in ("conv1", "fc3")],
    "Network.capture": captured,
    "Network.check_input": lambda network, x: network.check_input(x),
    "forward_patched": patched,
    "Network.module_input": lambda network, x: network.module_input(x.cpu()),
    "Network.output": lambda network, x: network.output(x),
    "Network.probabilities": lambda network, x: network.probabilities(x),
    "Network.show": lambda network, x: network.show(x).astype(float),
    "Network.to": moved,
    "Network.with_module": moved,
    "Occluder.occluded_windows": lambda network, x: OCCLUDER.occluded_windows(x[0], corners(), network),
    "Preprocessing.denormalise": lambda network, x: network.preprocessing.denormalise(x),
    "TransformPreprocessing.denormalise": lambda network, x: transform_preprocessing(network.preprocess).denormalise(x),
    "Preprocessing.normalise": lambda network, x: network.preprocessing.normalise(
        torch.arange(64 * 64 * 3, dtype=torch.uint8).view(1, 64, 64, 3).to(x.device)
    ),
    "ZFNet.forward": lambda network, x: forward(lambda: ZFNet(ZFNetOptions(hidden=8, classes=3)), x),
    "display_scale": lambda network, x: display_scale(x),
    "forward_occluded": lambda network, x: forward_occluded(network, x[0], OCCLUDER, corners(), "conv2", 3, None),
    "forward_occluded_in_batches": lambda network, x: [
        forward_occluded_in_batches(network, one, OCCLUDER, corners(), "conv2", 3, 4) for one in (x[0], x[0].cpu())
    ],
    "parallel_map": lambda network, x: list(
        parallel_map(network, lambda index: x[index : index + 1], lambda replica, one: replica.output(one), range(2))
    ),
    "picture": lambda network, x: np.asarray(picture(x)).astype(float),
    "project": lambda network, x: torch.as_tensor(deconvnet.project(network, x, layer="conv1", unit=2, position=(3, 4))),
    "project_batch": projected,
    "strongest_position": lambda network, x: strongest_position(
        network.activations(x, "conv1"), torch.tensor([1, 2]).to(x.device)
    ),
    "strongest_unit": lambda network, x: [strongest_unit(network, x[:1], "conv2", at) for at in (None, (1, 2))],
    "to_inputs": lambda network, x: [to_inputs(network, x.cpu()), to_inputs(network, torch.zeros(1, 64, 64, 3).byte())],
    "to_pictures": lambda network, x: to_pictures(network, x).astype(float),
    "to_pixels": lambda network, x: to_pixels(x, 2.0).astype(float),
    "topk_errors": lambda network, x: topk_errors(network.output(x), torch.tensor([0, 2]).to(x.device)),
    "upload": lambda network, x: upload(x.cpu(), x.device),
}

#: By name: the test in this folder that runs it on an accelerator.
TESTS = {
    "Atlas.build": "test_an_atlas_has_the_same_hits_and_pictures",
    "Batch.pinned_for": "test_batches_are_pinned_where_they_are_read_and_uploaded_where_they_are_computed_with",
    "InputReader": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "MiningKey.compute": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "MiningState.add": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "MiningState.to": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "Network": "test_it_gives_what_it_gives_on_the_cpu",
    "Network.capture_partial": "test_they_equal_the_cpus",
    "Snapshots.load": "test_an_evolution_is_the_same",
    "ablate": "test_variants_are_trained_and_judged_on_the_device",
    "batches": "test_batches_are_pinned_where_they_are_read_and_uploaded_where_they_are_computed_with",
    "check_sanity": "test_an_experiment_has_the_same_result",
    "compare": "test_an_experiment_has_the_same_result",
    "correspond": "test_an_experiment_has_the_same_result",
    "evaluate": "test_evaluate_counts_the_same_errors",
    "evolve": "test_an_evolution_is_the_same",
    "measure_invariance": "test_an_experiment_has_the_same_result",
    "merge_parts": "test_parts_mined_on_either_device_merge",
    "mine": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "mine_part": "test_parts_mined_on_either_device_merge",
    "mine_remaining": "test_parts_mined_on_either_device_merge",
    "occlude": "test_an_experiment_has_the_same_result",
    "save_weights": "test_saved_weights_are_the_same",
    "to_result": "test_mining_waits_once_per_batch_whatever_the_number_of_layers",
    "train": "test_the_first_ten_losses_are_the_cpus",
    "write_comparison": "test_an_experiment_has_the_same_result",
    "write_correspondence": "test_an_experiment_has_the_same_result",
    "write_invariance": "test_an_experiment_has_the_same_result",
    "write_occlusion": "test_an_experiment_has_the_same_result",
    "write_sanity": "test_an_experiment_has_the_same_result",
}

#: What is not run on one.
ELSEWHERE = {
    "check_way_down": "reads the trace alone",
    "layers_with_way_down": "reads the trace alone",
    "check": "copies the network to the CPU; tests/checking/test_check.py",
    "InputDataset.with_labels": "indices of classes, on the CPU",
    "InputStream.with_labels": "indices of classes, on the CPU",
    "MiningState.add_labels": "indices of classes, on the CPU",
    "Recipe.autocast": "cannot be emulated; tests/training/test_bfloat16.py",
    "Recipe.float32_precision": "about TF32, which only CUDA has; tests/tracing/test_float32_precision.py",
    "Recipe.memory_format": "only names a layout",
    "TransformPreprocessing": "only holds a transform, a mean and a std",
    "TransformPreprocessing.normalise": "returns its argument",
    "plan_batches": "indices of hits, on the CPU",
    "relative_distances": "numbers of a result, on the CPU",
    "split_indices": "indices of images, on the CPU",
}


def takes_device(function):
    """Whether a parameter is a device, a network, a module or a tensor."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # such as exceptions
        return False
    kinds = [str(p.annotation) for p in parameters if not str(p.annotation).startswith("collections.abc.Callable")]
    return any(p.name == "device" for p in parameters) or any(
        re.search(r"\b(Network|Tensor|Module)\b", kind) for kind in kinds
    )


def public_functions():
    """Functions, classes and methods of exported classes, by name. Dataclasses only hold; how to make them is left out.

    `deconvnet.tracing` is left out too: it is the inside of `Network` and `project`.
    """
    functions = {}
    source = Path(deconvnet.__file__).parent
    for file in source.rglob("__init__.py"):
        package = ".".join(file.parent.relative_to(source.parent).parts)
        if package in ("deconvnet.images", "deconvnet.networks", "deconvnet.tracing"):  # two deprecated names
            continue
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if callable(value) and not dataclasses.is_dataclass(value):
                functions[name] = value
            if inspect.isclass(value):
                methods = {method: getattr(value, method) for method in vars(value) if not method.startswith("_")}
                functions |= {f"{name}.{method}": found for method, found in methods.items() if callable(found)}
    return functions


def test_every_public_function_that_takes_a_device_is_run_on_one():
    named = [*CALLS, *TESTS, *ELSEWHERE]
    assert sorted(named) == sorted(name for name, function in public_functions().items() if takes_device(function))
    tests = {
        node.name
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(TESTS.values()) <= tests


def check_close(found, wanted, tolerance):
    """Assert that both hold equal values, those of floating-point tensors to a share of the largest."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for pair in zip(found, wanted, strict=True):
            check_close(*pair, tolerance)
    elif isinstance(wanted, torch.Tensor | np.ndarray | float):
        found, wanted = (torch.as_tensor(value).cpu().double() for value in (found, wanted))
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()
    else:
        assert found == wanted


@pytest.mark.parametrize("name", CALLS)
def test_it_gives_what_it_gives_on_the_cpu(inputs, device, on_device, noise, name):
    files = find_images(inputs / "photos" / "val")

    def result(device):
        network = load(f"{inputs}/networks.py:one").to(device)
        x = torch.stack([network.preprocess(read_image(files.file(index))) for index in range(2)])
        return CALLS[name](network, x.to(device))

    wanted = result("cpu")
    with on_device():
        check_close(result(device), wanted, max(1e-5, 100 * noise))


def test_saved_weights_are_the_same(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    network = load("zfnet", small_run / "run" / "weights.safetensors")
    save_weights(network, tmp_path / "cpu.safetensors")
    with emulated():
        save_weights(network.to("emu"), tmp_path / "emu.safetensors")
    assert (tmp_path / "emu.safetensors").read_bytes() == (tmp_path / "cpu.safetensors").read_bytes()
