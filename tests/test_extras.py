"""Installations without extras or without one of them, emulated: what is not installed cannot be imported."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from deconvnet import extras
from helpers.small_training import write_photos

ROOT = Path(__file__).parents[1]


def deconvnet_with(installed: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in an installation with these extras."""
    program = [sys.executable, ROOT / "tests" / "helpers" / "extras_only.py", installed, *command]
    return subprocess.run(list(map(str, program)), capture_output=True, text=True, timeout=300, check=False)


def test_every_extra_is_described_and_all_is_all_of_them():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(declared) == {*extras._MODULES, "all"}
    assert declared["all"] == [f"deconvnet[{','.join(sorted(extras._MODULES))}]"]
    for extra, modules in extras._MODULES.items():
        assert [requirement.partition(">")[0] for requirement in declared[extra]] == list(modules)


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("explore", ["explore", "atlas/"]),
        ("onnx", ["look", "zfnet:weights.onnx", "photo.png", "--out", "look.png"]),
        ("timm", ["networks", "timm:resnet18"]),
    ],  # what `report` needs comes with torch
)
def test_a_command_whose_extra_is_missing_says_what_to_install(tmp_path, monkeypatch, extra, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "atlas").mkdir()
    (tmp_path / "weights.onnx").write_bytes(b"no weights")
    Image.new("RGB", (8, 8)).save("photo.png")
    others = ",".join(set(extras._MODULES) - {extra})
    result = deconvnet_with(others, *command)
    assert (result.returncode, result.stdout) == (1, "")
    modules, verb = " and ".join(extras._MODULES[extra]), "are" if len(extras._MODULES[extra]) > 1 else "is"
    assert result.stderr == f'deconvnet: {modules} {verb} not installed: pip install "deconvnet[{extra}]".\n'


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not extras._is_installed("some_package")
    (tmp_path / "some_package" / "__init__.py").touch()
    assert extras._is_installed("some_package")


def test_a_plain_installation_knows_every_command():
    result = deconvnet_with("", "networks")
    assert result.returncode == 0, result.stderr
    assert "zfnet" in result.stdout


@pytest.mark.slow
def test_a_plain_installation_runs_the_demo(tmp_path):
    result = deconvnet_with("", "demo", "--network", "zfnet", "--units", "0", "--out", tmp_path / "demo")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo" / "zfnet" / "index.html").exists()


@pytest.mark.slow
def test_a_plain_installation_draws(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    result = deconvnet_with("", "look", "zfnet", tmp_path / "photo.png", "--out", tmp_path / "look.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "look.png").exists()


@pytest.mark.slow
def test_a_plain_installation_trains(tmp_path):
    write_photos(tmp_path / "photos")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epochs = 1\nbatch_size = 11\nlearning_rate = 0.01\n[network]\nhidden = 8\n")
    train = deconvnet_with("", "train", "zfnet", tmp_path / "photos", "--recipe", recipe, "--out", tmp_path / "run")
    assert train.returncode == 0, train.stderr
    assert 'There are the CSV logs only: tensorboard is not installed: pip install "deconvnet[train]".\n' in train.stderr
    assert not (tmp_path / "run" / "tensorboard").exists()
