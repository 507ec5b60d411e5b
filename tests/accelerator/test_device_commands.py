"""Every command gives on an accelerator what it gives on the CPU, but for rounding."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvnet import Atlas
from helpers.reporting import run_command_line

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


def arguments(command, inputs):
    return command.format(inputs=inputs).split()


def check_same(found, wanted, tolerance, place=""):
    """JSON values that are equal, numbers within a tolerance; sentences, which round numbers, are not compared."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), place
        for name in wanted:
            check_same(found[name], wanted[name], tolerance, f"{place}/{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), place
        for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            check_same(ours, theirs, tolerance, f"{place}[{number}]")
    elif isinstance(wanted, float) and math.isfinite(wanted):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), place
    elif not isinstance(wanted, str):
        assert found == wanted, place


@pytest.mark.parametrize("name", COMMANDS)
def test_an_experiment_has_the_same_result(inputs, tmp_path, run_on_emu, noise, name):
    words = arguments(COMMANDS[name], inputs)
    assert run_command_line(name, *words, "--out", tmp_path / "cpu", "--device", "cpu") == 0
    run_on_emu(name, *words, "--out", tmp_path / "emu")
    results = [json.loads((tmp_path / device / RESULTS[name]).read_text()) for device in ("emu", "cpu")]
    # In one, rounding decides whether a mask changes an activation that it hardly changes; in the other, in which order
    # places are covered that matter equally.
    decides = noise and name in ("correspond", "sanity")
    check_same(*results, tolerance=0.02 if decides else max(1e-5, 100 * noise))


def test_look_has_the_same_picture(inputs, tmp_path, run_on_emu):
    words = ("look", f"{inputs}/networks.py:one", f"{inputs}/photos/val/n0/00.png")
    assert run_command_line(*words, "--out", tmp_path / "cpu.png", "--device", "cpu") == 0
    run_on_emu(*words, "--out", tmp_path / "emu.png")
    assert picture_difference(tmp_path / "emu.png", tmp_path / "cpu.png") < 0.5


def picture_difference(found: Path, wanted: Path) -> float:
    """Mean absolute difference of two pictures' pixels, 0 to 255."""
    with Image.open(found) as ours, Image.open(wanted) as theirs:
        return float(np.abs(np.asarray(ours.convert("RGB"), float) - np.asarray(theirs.convert("RGB"), float)).mean())


def test_evaluate_counts_the_same_errors(inputs, run_on_emu, capsys):
    words = ("evaluate", f"{inputs}/networks.py:one", f"{inputs}/photos/val", "--views", 10, "--json")
    assert run_command_line(*words, "--device", "cpu") == 0
    on_cpu = json.loads(capsys.readouterr().out)
    run_on_emu(*words)
    assert json.loads(capsys.readouterr().out) == on_cpu


def test_an_atlas_has_the_same_hits_and_pictures(inputs, tmp_path, run_on_emu, noise, capsys):
    words = ("atlas", f"{inputs}/networks.py:one", f"{inputs}/photos/val")
    assert run_command_line(*words, "--out", tmp_path / "cpu", "--device", "cpu") == 0
    capsys.readouterr()
    run_on_emu(*words, "--out", tmp_path / "emu")
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
