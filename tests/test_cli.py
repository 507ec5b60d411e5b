"""Every command as a user types it: results, exit codes, and errors of one sentence."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deconvnet
from deconvnet.cli.app import ORDER
from deconvnet.data import Preprocessing, read_image
from deconvnet.data.transforms import per_channel
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, load, save_weights
from deconvnet.projection import RULES, project
from deconvnet.training import RECIPES, TRAINABLE
from helpers.killing import files


@pytest.fixture
def run(deconvnet_command):
    return deconvnet_command


@pytest.fixture
def weights(tmp_path):
    """A tiny AlexNet 2012 with classes, in a file of this project."""
    module = AlexNet2012(AlexNetOptions(classes=3, hidden=8))
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
    preprocessing = Preprocessing(256, 227, 255.0, per_channel((124.0, 117.0, 104.0)), per_channel((1.0, 1.0, 1.0)))
    classes = [("n1", "ant"), ("n2", "bee"), ("n3", "cat")]
    network = Network(module.eval(), preprocessing, name="alexnet2012", weights="tiny", classes=classes)
    save_weights(network, tmp_path / "tiny.safetensors", torch.float16)
    return f"alexnet2012:{tmp_path / 'tiny.safetensors'}"


def test_help_has_an_example_for_every_command(run):
    commands = (
        "networks",
        "check",
        "look",
        "project",
        "atlas",
        "mine",
        "merge",
        "demo",
        "pack",
        "train",
        "evaluate",
        "ablate",
        "evolve",
        "explore",
    )
    for command in commands:
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Example" in out
        assert f"deconvnet {command}" in out


def test_networks_lists_layers_and_weights(run):
    code, out, _ = run("networks", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["zfnet"]["layers"][1] == {"name": "conv2", "units": 256, "map": [26, 26], "field": [27, 27]}
    assert found["alexnet"]["weights"] == ["imagenet1k", "PATH", "random"]
    assert "139×139" in run("networks")[1]
    assert "torchvision:NAME" in run("networks")[1]


def test_networks_shows_one_network(run, tmp_path):
    code, out, _ = run("networks", "torchvision:squeezenet1_1", "--json")
    assert code == 0
    assert list(json.loads(out)) == ["torchvision:squeezenet1_1"]
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\nimport deconvnet\ndef net():\n"
        "    return deconvnet.Network(nn.Sequential(nn.Conv2d(3, 7, 9), nn.ReLU()), deconvnet.torchvision_preprocessing())\n"
    )
    code, out, _ = run("networks", tmp_path / "own_net.py:net")
    assert code == 0
    assert "9×9" in out
    assert run("networks", "torchvision:resnet19")[0] == 2


def test_look_writes_a_picture_and_says_the_classes(run, weights, photo_folder, tmp_path):
    code, out, _ = run("look", weights, photo_folder / "ant" / "00.png", "--out", tmp_path / "look.png", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["network"] == "alexnet2012 (tiny)"
    assert {entry["class"] for entry in result["classes"]} == {"ant", "bee", "cat"}
    assert [len(units) for units in result["layers"].values()][:5] == [6] * 5
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.width > 1000


def test_project_writes_values_and_a_picture(run, weights, photo_folder, tmp_path):
    photo = photo_folder / "ant" / "00.png"
    where = ("--layer", "conv3", "--unit", 7, "--position", "6,5")
    assert run("project", weights, photo, *where, "--out", tmp_path / "p.png")[0] == 0
    code, out, _ = run("project", weights, photo, *where, "--out", tmp_path / "p.npy", "--json")
    assert code == 0
    assert {key: json.loads(out)[key] for key in ("layer", "unit", "row", "column")} == {
        "layer": "conv3",
        "unit": 7,
        "row": 6,
        "column": 5,
    }
    assert run("project", weights, photo, *where, "--out", tmp_path / "Q.NPY")[0] == 0
    assert np.array_equal(np.load(tmp_path / "Q.NPY"), np.load(tmp_path / "p.npy"))
    values = np.load(tmp_path / "p.npy")
    assert values.shape == (3, 227, 227)
    assert values.dtype == np.float32
    assert sorted(path.name for path in tmp_path.glob("*p.*")) == ["p.npy", "p.png"]


def test_what_is_not_there_is_said_before_torch_is_imported(tmp_path):
    for words in (["look", "zfnet", "gone.jpg", "--out", "a.png"], ["atlas", "zfnet", "gone", "--out", "a"], ["explore"]):
        typed = [sys.executable, "-X", "importtime", "-m", "deconvnet", *words]
        ended = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode in (1, 2)
        assert ended.stderr.splitlines()[-1].startswith("deconvnet: There is no")
        assert "typer" in ended.stderr
        assert not re.search(r"\btorch\b", ended.stderr)


def test_help_lists_the_commands_as_the_documentation_does():
    index = (Path(__file__).parents[1] / "docs" / "commands" / "index.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| \[(\w+)\]", index, re.MULTILINE)) == ORDER


def test_project_takes_the_unit_that_is_strongest_at_a_position(run, weights, photo_folder, tmp_path):
    photo = photo_folder / "ant" / "00.png"
    words = ("--layer", "conv3", "--position", "2,3", "--out", tmp_path / "p.png", "--json")
    code, out, _ = run("project", weights, photo, *words)
    net = load(weights)
    maps = net.activations(net.preprocess(read_image(photo))[None], "conv3")[0]
    assert (code, json.loads(out)["unit"]) == (0, int(maps[:, 2, 3].argmax()))
    silent = (maps == 0).nonzero()[0].tolist()
    words = ("--layer", "conv3", "--unit", silent[0], "--position", f"{silent[1]},{silent[2]}", "--out", tmp_path / "q.png")
    assert "activation 0. The unit is silent there, so nothing comes down." in run("project", weights, photo, *words)[1]


def test_project_by_other_rules(run, weights, photo_folder, tmp_path):
    photo, found = photo_folder / "ant" / "00.png", {}
    for rules in ("deconvnet", "guided"):
        words = ("--layer", "conv3", "--rules", rules, "--out", tmp_path / f"{rules}.npy", "--json")
        code, out, _ = run("project", weights, photo, *words)
        assert (code, json.loads(out)["rules"]) == (0, rules)
        found[rules] = np.load(tmp_path / f"{rules}.npy")
    net = load(weights)
    x = net.preprocess(read_image(photo))[None]
    want = project(net, x, layer="conv3", unit=json.loads(out)["unit"], rules="guided")
    assert np.array_equal(found["guided"], want[0].numpy())
    assert not np.allclose(found["deconvnet"], found["guided"])


def test_atlas_of_a_folder_with_a_broken_photo_and_a_text_file(run, weights, photo_folder, tmp_path):
    out = tmp_path / "atlas"
    code, said, _ = run("atlas", weights, photo_folder, "--out", out, "--layers", "conv1,conv5", "--units", "0-2,40")
    assert code == 0
    assert "8 units over 18 photos" in said
    assert "1 files are not photos by their name: notes.txt" in said
    assert "1 photos could not be read and were skipped:\n  bee/broken.jpg" in said
    assert (out / "conv5" / "0040.webp").exists()
    assert run("atlas", weights, photo_folder, "--out", out)[0] == 2  # it exists already


def test_parts_that_were_mined_apart_make_the_same_atlas(run, weights, photo_folder, tmp_path):
    layers, units = ("--layers", "conv1,conv5"), ("--units", "0-2")
    assert run("atlas", weights, photo_folder, "--out", tmp_path / "whole", *layers, *units)[0] == 0
    parts = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for number, file in enumerate(parts, start=1):
        code, said, _ = run("mine", weights, photo_folder, *layers, "--part", f"{number}/2", "--out", file)
        assert (code, said) == (0, f"Wrote {file}: {(18, 0)[number - 1]} of 19 photos.\n")  # fewer than a part's grain
    assert run("merge", weights, photo_folder, *parts, *units, "--out", tmp_path / "merged")[0] == 0
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    code, _, said = run("merge", weights, photo_folder, parts[1], "--out", tmp_path / "other")
    assert code == 1
    assert "The parts lack 19 of 19 photos" in said


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["mine", "WEIGHTS", "FOLDER", "--out", "a.pt"], 2, "a.pt should end in .safetensors"),
        (["mine", "WEIGHTS", "FOLDER", "--out", "a.safetensors", "--part", "3/2"], 2, "There is no part 3 of 2"),
        (["mine", "WEIGHTS", "FOLDER", "--out", "a.safetensors", "--part", "half"], 2, "--part takes 2 numbers with '/'"),
        (["merge", "WEIGHTS", "FOLDER", "gone.safetensors", "--out", "a"], 1, "There is no file or folder gone.safetensors"),
        (["merge", "WEIGHTS", "FOLDER", "PHOTO", "--out", "a"], 1, "is not a whole state file"),
        (["look", "vgg", "PHOTO", "--out", "o.png"], 2, "There is no network 'vgg'"),
        (["look", "zfnet512", "PHOTO", "--out", "o.png"], 2, "zfnet512 has no weights of its own:"),
        (["look", "zfnet:gone.pth", "PHOTO", "--out", "o.png"], 1, "There is no file gone.pth"),
        (["look", "WEIGHTS", "gone.jpg", "--out", "o.png"], 1, "gone.jpg"),
        (["look", "WEIGHTS", "PHOTO", "--out", "o.txt"], 2, "should end in .png"),
        (["look", "WEIGHTS", "PHOTO", "--out", "o.png", "--device", "abacus"], 2, "There is no device 'abacus'"),
        (["project", "WEIGHTS", "PHOTO", "--layer", "conv9", "--out", "o.png"], 2, "its layers are conv1"),
        (["project", "WEIGHTS", "PHOTO", "--layer", "conv1", "--unit", "96", "--out", "o.png"], 2, "its units are 0–95"),
        (
            ["project", "WEIGHTS", "PHOTO", "--layer", "conv1", "--position", "5", "--out", "o.png"],
            2,
            "--position takes 2 numbers",
        ),
        (
            ["project", "WEIGHTS", "PHOTO", "--layer", "conv1", "--rules", "sum", "--out", "o.png"],
            2,
            "There are no rules 'sum'",
        ),
        (["atlas", "WEIGHTS", "nowhere", "--out", "a"], 1, "There is no file or folder nowhere"),
        (["atlas", "WEIGHTS", "FOLDER", "--out", "a", "--layers", "conv9"], 2, "its layers are conv1"),
        (["atlas", "WEIGHTS", "FOLDER", "--out", "a", "--units", "one"], 2, "--units takes numbers"),
        (["atlas", "WEIGHTS", "FOLDER", "--out", "a", "--units", "9000"], 2, "There is no unit 9000: conv1 has 0–95"),
        (
            ["atlas", "WEIGHTS", "FOLDER", "--out", "a", "--units", "0-9999999999"],
            2,
            "There is no unit 9999999999: no layer",
        ),
        (["demo", "--units", "one"], 2, "--units takes numbers"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(run, weights, photo_folder, tmp_path, monkeypatch, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    stand_ins = {"WEIGHTS": weights, "PHOTO": photo_folder / "ant" / "00.png", "FOLDER": photo_folder}
    before = sorted(tmp_path.rglob("*"))
    result = run(*(stand_ins.get(word, word) for word in words))
    assert result[0] == code
    assert sentence in result[2]
    assert result[2].startswith("deconvnet: ")
    assert result[2].count("\n") == 1
    assert result[1] == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_ablate_lists_its_variants_without_training_any(run):
    code, out, _ = run("ablate", "--list")
    assert code == 0
    assert "zfnet-wide-fc8192   96@110  256@26  512@13  1024@13  512@13  8192  8192     237.6  2607" in out
    code, out, _ = run("ablate", "--list", "--json", "--only", "alexnet2012-no67")
    assert json.loads(out)["alexnet2012-no67"]["parameters"] == 11_551_080
    for words, sentence in (
        (["--list", "--out", "a"], "--list trains nothing: leave DATA and --out out."),
        (["photos"], "ablate takes DATA and --out, or --list."),
        (["--list", "--only", "zf"], "Table 3 has no variant 'zf'"),
    ):
        code, _, err = run("ablate", *words)
        assert code == 2
        assert sentence in err


def test_wrong_options_are_wrong_use(run):
    assert run("atlas", "--no-such-option")[0] == 2
    assert run("nothing")[0] == 2


def test_python_dash_m_runs_it():
    done = subprocess.run([sys.executable, "-m", "deconvnet", "look", "vgg"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: python -m deconvnet look" in done.stderr
    assert "Missing argument 'IMAGE'" in done.stderr


def test_version(run):
    assert run("--version")[:2] == (0, f"deconvnet {deconvnet.__version__}\n")


def test_help_and_completion_wait_for_nothing_large():
    heavy = "torch", "torchvision", "numpy", "scipy", "PIL", "matplotlib", "rich", "fastapi"
    code = f"import sys, deconvnet.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "deconvnet ev", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "deconvnet ev"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "deconvnet ev", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shells_complete_commands(shell, asked):
    code = "import sys; sys.argv = ['deconvnet']; from deconvnet.cli import main; main()"
    environment = {**os.environ, "_DECONVNET_COMPLETE": f"complete_{shell}", **asked}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "evaluate" in done.stdout
    assert "evolve" in done.stdout
    assert "explore" not in done.stdout


@pytest.mark.parametrize(
    ("command", "names"),
    [("project", RULES), ("sanity", RULES), ("train", RECIPES), ("train", TRAINABLE), ("ablate", RECIPES)],
)
def test_help_names_what_there_is(run, monkeypatch, command, names):
    monkeypatch.setenv("COLUMNS", "200")
    said = run(command, "--help")[1]
    assert all(name in said for name in names)


@pytest.mark.slow
def test_the_demo_shows_both_networks_that_come_along_and_goes_on_with_what_is_missing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)  # offline
    out = tmp_path / "demo"
    code, said, _ = run("demo", "--units", "1", "--out", out)
    assert code == 0
    for name in ("alexnet2012", "zfnet"):
        assert f"Wrote {out / name}: 5 units over 495 photos. Open {out / name / 'index.html'}." in said
    assert f"{(out / 'alexnet2012').as_uri()}/compare.html?with=zfnet" in said
    assert f"deconvnet explore {out / 'alexnet2012'} {out / 'zfnet'}" in said
    assert '"beside":["zfnet"]' in (out / "alexnet2012" / "pages" / "atlas.js").read_text()
    assert "holds this demo already" in run("demo", "--units", "1", "--out", out)[2]
    shutil.rmtree(out / "zfnet")
    before = (out / "alexnet2012" / "atlas.json").stat().st_mtime_ns
    code, said, _ = run("demo", "--units", "1", "--out", out, "--json")
    assert (code, [book["atlas"] for book in json.loads(said)["atlases"]]) == (0, [str(out / "zfnet")])
    assert (out / "zfnet" / "index.html").exists()
    assert (out / "alexnet2012" / "atlas.json").stat().st_mtime_ns == before
