"""Each benchmark runs once, on next to nothing, so that none rots; nothing here is about how fast anything is.

What they say of equality is checked, as far as it can be on so little.
"""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.slow,
    # Of the workers of the peers' DataLoader.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_mining(run, images):
    found = run("mining", images=images, photos=9, batches="8", workers=1, repeats=1)["found"]
    places = 9 * (64 + 192 + 384 + 256 + 256)
    assert found["views_against_torchvision"]["photos_that_differ"] == 0
    hits = found["hits_against_usual_script"]["deconvnet"]
    assert hits["places"] == places
    assert hits["different"] == 0


def test_projection(run, images):
    result = run("projection", images=images, photos=9, top=2, units=1, checked=1, repeats=1)
    goals = [goal["what"] for goal in result["goals"]]
    assert any(goal.startswith("times captum") and goal.endswith("layer4.2.relu#3") for goal in goals)
    assert any(goal.startswith("times captum") and goal.endswith("conv5") for goal in goals)
    apart = result["found"]["torchvision:resnet50:random"]["largest_relative_difference_of_pictures"]
    assert max(apart["captum"].values()) <= 1e-5
    apart = result["found"]["alexnet:random"]["largest_relative_difference_of_pictures"]
    assert max(apart["captum"].values()) <= 1e-5
    assert apart["MaxUnpool2d"]["conv1"] <= 1e-5 < apart["MaxUnpool2d"]["conv5"]


def test_occlusion(run, images):
    result = run("occlusion_speed", images=images, size=164, stride=60, batches="4", repeats=1)
    assert len(result["found"]) == 2
    for found in result["found"].values():
        assert found["positions"] == 4
        assert found["largest_difference_of_probabilities"] <= 1e-5
        assert found["largest_change_by_occluding"] > 1e-3


def test_step(run, images):
    found = run("step", images=images, batches="2", steps=1, long=1, hidden=16, repeats=1)["found"]["batch 2"]
    apart = found["relative_difference_of_plain_step"]
    assert apart["loss"] <= 1e-5
    assert apart["gradient_of_first_filters"] <= 1e-10
    assert 0 <= found["from_packed_set"]["waiting"] <= 1


def test_loading(run):
    result = run("loading", photos=8, batch=4, repeats=1)
    assert result["found"]["photos"] == 8
    assert result["found"]["grey_levels_apart"] <= 1


def test_growth(run, images):
    found = run("growth", images=images, sizes="4")["found"]
    assert found["peak_MB"]["4"] > 0


def test_profiles(images, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    out = tmp_path / "profiles.json"
    importlib.import_module("profiles").main(images=images, photos=9, units=1, size=200, batch=2, hidden=16, out=out)
    found = json.loads(out.read_text())["milliseconds"]
    assert found["mining, a photo"]["reading photos"] > 0
    assert all(kinds["convolutions, forward"] > 0 for kinds in found.values())
    assert sum(work.startswith("projecting") for work in found) == 5
