"""Every command gives on an accelerator what it gives on the CPU, but for rounding."""

import ast
import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer

from deconvnet import Atlas, demo_images
from deconvnet.cli.app import app
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.experiments.table3_ablation import compute as ablation
from deconvnet.experiments.table3_ablation.variants import NetworkSize
from deconvnet.models import ARCHITECTURES
from helpers.reporting import run_command_line
from helpers.same_results import check_same, picture_difference
from helpers.small_training import SMALL

#: By command: its arguments, in which {inputs} is the folder of inputs, and what it writes to --out.
COMMANDS = {
    "invariance": "{inputs}/networks.py:one {inputs}/photos/val/n0/00.png {inputs}/photos/val/n1/01.png",
    "occlude": "{inputs}/networks.py:one {inputs}/photos/val/n0/00.png --size 20 --stride 9",
    "compare": "{inputs}/networks.py:one {inputs}/networks.py:other {inputs}/photos/val",
    "correspond": "{inputs}/networks.py:one {inputs}/faces {inputs}/faces/parts.json",
    "sanity": "{inputs}/networks.py:one {inputs}/photos/val/n0/00.png --stride 30 --draws 2",
}
RESULTS = {
    "invariance": "invariance.json",
    "occlude": "occlusion.json",
    "compare": "comparison.json",
    "correspond": "correspondence.json",
    "sanity": "sanity.json",
}

#: By command that takes a device: the test, in this folder, that runs it on one.
TESTS = dict.fromkeys(COMMANDS, "test_an_experiment_has_the_same_result") | {
    "ablate": "test_variants_are_trained_and_judged_on_the_device",
    "atlas": "test_an_atlas_has_the_same_hits_and_pictures",
    "demo": "test_a_demo_has_the_same_hits",
    "evaluate": "test_evaluate_counts_the_same_errors",
    "evolve": "test_an_evolution_is_the_same",
    "explore": "test_it_answers_as_on_the_cpu",
    "look": "test_look_has_the_same_picture",
    "merge": "test_parts_mined_on_either_device_merge",
    "mine": "test_parts_mined_on_either_device_merge",
    "project": "test_a_projection_is_the_same",
    "reproduce": "test_a_report_runs_its_commands_on_the_device",
    "train": "test_the_first_ten_losses_are_the_cpus",
}

RECIPE = """
epochs = 1
batch_size = 4
learning_rate = 1e-3
initial = "he"
deviation = 58.0
"""


def test_every_command_that_takes_a_device_is_tested_on_one():
    commands = typer.main.get_command(app).commands
    assert sorted(name for name, command in commands.items() if any(p.name == "device" for p in command.params)) == sorted(
        TESTS
    )
    tests = {
        node.name
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(TESTS.values()) <= tests


#: For what takes seconds.
FEWER_NOISES = pytest.mark.parametrize(
    "noise", [0.0, pytest.param(3e-7, marks=pytest.mark.slow), 3e-6], ids="noise {:g}".format, indirect=True
)


def arguments(command, inputs):
    return command.format(inputs=inputs).split()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_experiment_has_the_same_result(inputs, tmp_path, run_on_device, noise, name):
    words = arguments(COMMANDS[name], inputs)
    assert run_command_line(name, *words, "--out", tmp_path / "cpu", "--device", "cpu") == 0
    run_on_device(name, *words, "--out", tmp_path / "emu")
    results = [json.loads((tmp_path / device / RESULTS[name]).read_text()) for device in ("emu", "cpu")]
    # In one, rounding decides whether a mask changes an activation that it hardly changes; in the other, in which order
    # places are covered that matter equally, also without noise, as a CPU computes only what changes.
    decides = name == "sanity" or (noise and name == "correspond")
    check_same(*results, tolerance=0.02 if decides else max(1e-5, 100 * noise))


def test_look_has_the_same_picture(inputs, tmp_path, run_on_device):
    words = ("look", f"{inputs}/networks.py:one", f"{inputs}/photos/val/n0/00.png")
    assert run_command_line(*words, "--out", tmp_path / "cpu.png", "--device", "cpu") == 0
    run_on_device(*words, "--out", tmp_path / "emu.png")
    assert picture_difference(tmp_path / "emu.png", tmp_path / "cpu.png") < 0.5


def test_evaluate_counts_the_same_errors(inputs, run_on_device, capsys):
    words = ("evaluate", f"{inputs}/networks.py:one", f"{inputs}/photos/val", "--views", 10, "--json")
    assert run_command_line(*words, "--device", "cpu") == 0
    on_cpu = json.loads(capsys.readouterr().out)
    run_on_device(*words)
    assert json.loads(capsys.readouterr().out) == on_cpu


def test_an_atlas_has_the_same_hits_and_pictures(inputs, tmp_path, run_on_device, noise, capsys):
    words = ("atlas", f"{inputs}/networks.py:one", f"{inputs}/photos/val")
    assert run_command_line(*words, "--out", tmp_path / "cpu", "--device", "cpu") == 0
    capsys.readouterr()
    run_on_device(*words, "--out", tmp_path / "emu")
    printed = capsys.readouterr().out
    ours, theirs = Atlas(tmp_path / "emu"), Atlas(tmp_path / "cpu")
    tolerance = max(1e-5, 100 * noise)
    largest = {layer: max(float(hit["value"]) for hit in theirs.hits if hit["layer"] == layer) for layer in theirs.layers}
    moved = set()
    for hit, wanted in zip(ours.hits, theirs.hits, strict=True):
        assert (hit["layer"], hit["unit"], hit["rank"]) == (wanted["layer"], wanted["unit"], wanted["rank"])
        assert abs(float(hit["value"]) - float(wanted["value"])) <= tolerance * largest[hit["layer"]]
        if any(hit[name] != wanted[name] for name in ("image", "row", "column")):  # near-ties have changed places
            moved.add((hit["layer"], int(hit["unit"])))
    differences = [layer["largest_difference"] for layer in ours.description["layers"]]
    assert max(differences) <= 100 * tolerance
    assert ("This device rounds: computed again" in printed) == (max(differences) > 1e-5)
    differing = {
        (layer, unit)
        for layer in ours.layers
        for unit in range(len(list((tmp_path / "cpu" / layer).glob("*-small.webp"))))
        if picture_difference(*(tmp_path / device / layer / f"{unit:04d}.webp" for device in ("emu", "cpu"))) > 0.5
    }
    turned = differing - moved  # the same hits, but rounding has turned a switch on the way down
    print(f"noise {noise:g}: of 21 units the hits of {len(moved)} and switches of {len(turned)} are others")
    assert len(moved) <= (2 if noise else 0)
    assert len(turned) <= (4 if noise else 0)


def hits(atlas):
    return {(hit["layer"], hit["unit"], hit["rank"]): hit for hit in atlas.hits}


def check_same_hits(found, wanted, tolerance):
    """Assert that two atlases show the same, but for places of near-ties: at each rank values are equal to a tolerance."""
    ours, theirs = hits(found), hits(wanted)
    assert ours.keys() == theirs.keys()
    for key, hit in ours.items():
        assert float(hit["value"]) == pytest.approx(float(theirs[key]["value"]), rel=tolerance, abs=tolerance)
    others = [key for key in ours if any(ours[key][name] != theirs[key][name] for name in ("image", "row", "column"))]
    assert len(others) <= len(ours) // 100


def test_a_projection_is_the_same(inputs, tmp_path, run_on_cpu, run_on_device, noise):
    words = ("project", f"{inputs}/networks.py:one", f"{inputs}/photos/val/n0/00.png", "--layer", "conv2")
    run_on_cpu(*words, "--out", tmp_path / "cpu.npy")
    run_on_device(*words, "--out", tmp_path / "emu.npy")
    found, wanted = np.load(tmp_path / "emu.npy"), np.load(tmp_path / "cpu.npy")
    assert np.abs(found - wanted).max() <= max(1e-5, 100 * noise) * np.abs(wanted).max()


@FEWER_NOISES
def test_parts_mined_on_either_device_merge(inputs, tmp_path, run_on_cpu, run_on_device, noise, monkeypatch):
    monkeypatch.setattr(importlib.import_module("deconvnet.mining.mine"), "PART_MULTIPLE", 4)  # of 12 photos
    network, photos = f"{inputs}/networks.py:one", f"{inputs}/photos/val"
    run_on_cpu("atlas", network, photos, "--units", "0-2", "--out", tmp_path / "whole")
    run_on_device("mine", network, photos, "--part", "1/2", "--out", tmp_path / "1.safetensors")
    run_on_cpu("mine", network, photos, "--part", "2/2", "--out", tmp_path / "2.safetensors")
    parts = (tmp_path / "1.safetensors", tmp_path / "2.safetensors")
    run_on_device("merge", network, photos, *parts, "--units", "0-2", "--out", tmp_path / "merged")
    check_same_hits(Atlas(tmp_path / "merged"), Atlas(tmp_path / "whole"), max(1e-5, 100 * noise))


@FEWER_NOISES
def test_an_evolution_is_the_same(small_run, tmp_path, run_on_cpu, run_on_device, noise, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    words = ("evolve", small_run / "run", small_run / "photos" / "val", "--units", 2)
    run_on_cpu(*words, "--out", tmp_path / "cpu")
    run_on_device(*words, "--out", tmp_path / "emu")
    results = [json.loads((tmp_path / device / "evolution.json").read_text()) for device in ("emu", "cpu")]
    check_same(*results, tolerance=max(1e-5, 100 * noise))


@pytest.mark.parametrize("noise", [0.0], indirect=True)
def test_variants_are_trained_and_judged_on_the_device(small_run, tmp_path, run_on_cpu, run_on_device, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    monkeypatch.setattr(ablation, "network_size", lambda variant, options: NetworkSize(1, 1))  # the same on all devices
    monkeypatch.setattr(ablation, "evaluate", partial(evaluate, batch_size=3))  # smaller batches need less padding
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    words = ("ablate", small_run / "photos", "--recipe", recipe, "--only", "zfnet")
    run_on_cpu(*words, "--out", tmp_path / "cpu")
    run_on_device(*words, "--out", tmp_path / "emu")
    results = [json.loads((tmp_path / device / "ablation.json").read_text()) for device in ("emu", "cpu")]
    check_same(*results, tolerance=1e-5)


@pytest.mark.parametrize("noise", [0.0], indirect=True)
def test_a_demo_has_the_same_hits(inputs, tmp_path, run_on_cpu, run_on_device, monkeypatch):
    monkeypatch.setattr(demo_images, "IMAGE_NAMES", demo_images.IMAGE_NAMES[:1])
    words = ("demo", "--network", f"{inputs}/networks.py:one", "--units", "0-1")
    run_on_cpu(*words, "--out", tmp_path / "cpu")
    run_on_device(*words, "--out", tmp_path / "emu")
    check_same_hits(Atlas(tmp_path / "emu" / "one"), Atlas(tmp_path / "cpu" / "one"), 1e-5)


@pytest.mark.parametrize("noise", [0.0], indirect=True)
def test_a_report_runs_its_commands_on_the_device(inputs, tmp_path, run_on_cpu, run_on_device, device):
    file = inputs / "networks.py"
    words = ("reproduce", inputs / "photos", "--alexnet", f"{file}:one", "--zfnet", f"{file}:other", "--only", "table-2")
    run_on_cpu(*words, "--out", tmp_path / "cpu")
    run_on_device(*words, "--out", tmp_path / "emu")
    results = [
        json.loads((tmp_path / device_folder / "table-2" / "evaluation.json").read_text())
        for device_folder in ("emu", "cpu")
    ]
    check_same(*results, tolerance=1e-5)
    (step,) = json.loads((tmp_path / "emu" / "report.json").read_text())["steps"].values()
    assert f"--device {device}" in step["command"]
