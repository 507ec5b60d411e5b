"""The command `check`: a table, JSON, and an exit code that scripts can go by."""

import json

import pytest

NETWORK = """
import deconvnet, torch
from torch import nn
from torch.nn import functional as F


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def network(*steps):
    torch.manual_seed(0)
    last = nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *steps, *last)
    return deconvnet.Network(module, deconvnet.torchvision_preprocessing(16, 16), name="small")


def right():
    return network()


def gated():
    return network(Step(lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()))


def silu():
    return network(nn.SiLU())


def random():
    return network(Step(lambda x: F.dropout(x, 0.5)))
"""


@pytest.fixture
def check(tmp_path, deconvnet_command):
    file = tmp_path / "mine.py"
    file.write_text(NETWORK)
    return lambda function, *options: deconvnet_command("check", f"{file}:{function}", *options)


def test_a_table(check):
    code, out, err = check("right")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["layer", "units", "map", "field", "way", "down", "difference", "finding"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "3"]
    assert all(line.endswith("exact") for line in lines[1:3])
    assert lines[3].startswith("2 layers are projected exactly by the paper's rules; the implementations agree to ")
    assert err.startswith("Checking small: 2 of 2")


def test_json(check):
    code, out, _ = check("right", "--json", "--layers", "3", "--places", "2")
    (layer,) = (found := json.loads(out))["layers"]
    assert code == 0
    assert found["right"] is True
    assert (layer["layer"], layer["finding"], layer["activations"]) == ("3", "exact", 2)


def test_what_is_approximated_is_told_and_no_failure(check):
    code, out, err = check("gated")
    lines = out.splitlines()
    assert code == 0
    assert "passes gates or the like (mul, sigmoid)" in lines[0]
    assert "deconvnet:" not in err
    assert lines[3].endswith("approximated: mul, sigmoid")


@pytest.mark.parametrize(
    ("function", "sentence"), [("silu", "uses silu"), ("random", "small cannot be looked at. small gives another output")]
)
def test_what_is_refused_exits_with_1(check, function, sentence):
    code, out, _ = check(function)
    assert code == 1
    assert sentence in out
    assert "Traceback" not in out


def test_wrong_use(check):
    code, out, err = check("right", "--layers", "conv9")
    assert (code, out) == (2, "")
    assert err == "deconvnet: small has no layer 'conv9'; its layers are 1, 3.\n"
