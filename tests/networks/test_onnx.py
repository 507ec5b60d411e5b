"""ONNX files: the zoo's are computed as they say, other spellings are understood, and every difference is refused."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.networks import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions, catalogue, load
from deconvnet.networks.published import PUBLISHED
from helpers.loading import refusal
from helpers.onnx_files import GEOMETRY, LRN, Op, chain, evaluate, write

#: A contrast normalisation strong enough to be missed, as ONNX has it and as ours.
STRONG = (5, 0.5, 0.6, 1.5)
TOML = """\
resize = 256
crop = 224
channels = "RGB"
scale = 255
mean = [120, 110, 100]
[options]
hidden = 16
middle = [8, 9, 10]
[options.contrast]
n = 5
alpha = 0.5
beta = 0.6
k = 1.5
"""


def lively(module):
    """Weights and biases with which every layer has something to say."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(part.weight)
            nn.init.uniform_(part.bias, -1, 1)
    return module.eval()


def alike(found, expected):
    return np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def small():
    """A ZFNet with few units, and the operations of its ONNX file."""
    torch.manual_seed(0)
    module = lively(ZFNet(ZFNetOptions(classes=7, hidden=16, middle=(8, 9, 10))))
    return module, chain(module, GEOMETRY["zfnet"], STRONG, norm_first=False)


@pytest.fixture
def ops(small):
    """The operations, to be changed."""
    return [Op(op.kind, dict(op.attributes), list(op.tensors)) for op in small[1]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.onnx"


@pytest.fixture
def toml(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(TOML)
    return file


def nth(ops, kind, number=1):
    """Where the n-th operation of a kind stands."""
    return [place for place, op in enumerate(ops) if op.kind == kind][number - 1]


# The zoo's files


@pytest.mark.parametrize(
    ("name", "row", "build", "contrast"),
    [
        ("alexnet2012", "bvlcalexnet-9.onnx", AlexNet2012(AlexNetOptions(classes=7, hidden=16)), (5, 1e-4, 0.75, 1.0)),
        (
            "zfnet512",
            "zfnet512-12.onnx",
            ZFNet(ZFNetOptions(classes=7, hidden=16, fc7=8, middle=(512, 512, 512))),
            (5, 5e-4, 0.75, 2.0),
        ),
    ],
)
def test_a_file_of_the_zoo_is_recognised_and_computed_as_it_says(monkeypatch, file, name, row, build, contrast):
    module = lively(build)
    write(file, chain(module, GEOMETRY[name], contrast)[:-1])
    row = next(published for published in PUBLISHED if published.file == row)
    options = {**row.description["options"], "hidden": 16, **({"fc7": 8} if name == "zfnet512" else {})}
    known = {key: value for key, value in row.description.items() if key != "classes"} | {"options": options}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(catalogue, "PUBLISHED", (replace(row, sha256=digest, description=known),))
    found = load(name, file)
    x = 60 * torch.randn(1, 3, found.preprocessing.crop, found.preprocessing.crop)
    with torch.no_grad():
        assert alike(found.module(x).numpy(), evaluate(file, x.flip(1)))  # the files expect BGR
