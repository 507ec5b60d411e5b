"""Inputs of a small report: two networks, photos of three classes, and three more with landmarks."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from deconvnet import cli

NETWORKS = """
import torch
from torch import nn

import deconvnet


def _net(name, seed, stride, classes):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 5, stride=stride, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(5, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3),
    ).eval()
    names = ["conv1", "conv2", "fc3"]
    preprocessing = deconvnet.torchvision_preprocessing(72, 64)
    classes = [(f"n{number}", word) for number, word in enumerate(classes)]
    return deconvnet.Network(module, preprocessing, name=name, weights="random", layer_names=names, classes=classes)


def one():
    return _net("one", 0, 4, ("ant", "bee", "cat"))


def other():
    return _net("other", 1, 2, ("ant", "bee", "cat"))


def knows_nothing():
    return _net("stranger", 2, 2, ("dog", "eel", "fox"))
"""


def write_report_inputs(folder: Path) -> None:
    """`networks.py`, `photos/val/` with a folder for each class, and `faces/` with `parts.json`."""
    (folder / "networks.py").write_text(NETWORKS)
    random = np.random.default_rng(0)
    for number in range(12):
        label = folder / "photos" / "val" / f"n{number % 3}"
        label.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 72), Image.Resampling.BICUBIC).save(label / f"{number:02d}.png")
    (folder / "faces").mkdir()
    parts = {}
    for number in range(3):
        name = f"face-{number}.png"
        Image.fromarray(random.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(folder / "faces" / name)
        parts[name] = {"left eye": [36, 40], "right eye": [60, 40], "mouth": [48, 66]}
    (folder / "faces" / "parts.json").write_text(json.dumps(parts))


def run_command_line(*words: object) -> int:
    """Run `deconvnet` as if these words were typed; returns its exit code."""
    before, sys.argv = sys.argv, ["deconvnet", *map(str, words)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0
