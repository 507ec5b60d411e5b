"""Networks from a Python file of one's own."""

import sys

import pytest
import torch

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import describe_network, load

MINE = """\
from torch import nn
import deconvnet
from widths import WIDTH


def tiny():
    import strides  # only now
    module = nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=strides.STRIDE), nn.ReLU())
    return deconvnet.Network(module, deconvnet.torchvision_preprocessing(40, 32))


def named():
    network = tiny()
    network.name = "my own"
    return network


def sized(width):
    return tiny()


def bare():
    return nn.ReLU()


def forgetful():
    tiny()


def broken():
    raise ValueError("no such width.\\nTry another")


def leaving():
    raise SystemExit(3)


def refused():
    return deconvnet.Network(nn.ReLU(), None)


def _hidden():
    pass


number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file with such functions, in a folder with two modules that it needs; nothing of it stays imported."""
    folder = tmp_path / "my nets, v1.0: größer"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "widths.py").write_text("WIDTH = 5")
    (folder / "strides.py").write_text("STRIDE = 2")
    before = dict(sys.modules)
    yield folder / "mine.py"
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def refusal(network, kind=DeconvnetError):
    with pytest.raises(kind) as caught:
        load(str(network))
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert sentence.endswith((".", ")."))
    assert "\n" not in sentence
    return sentence


def test_a_function_makes_a_network(mine):
    path = list(sys.path)
    network = load(f"{mine}:tiny")
    assert sys.path == path
    assert network.full_name == "mine.py:tiny"
    assert network.activations(torch.ones(1, 3, 32, 32), "1").shape == (1, 5, 15, 15)
    assert load(f"{mine}:named").full_name == "my own"
    assert describe_network(f"{mine}:tiny")["layers"] == [{"name": "1", "units": 5, "map": [15, 15], "field": [3, 3]}]


def test_a_relative_path_will_do(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    assert load("mine.py:tiny").name == "mine.py:tiny"


def test_a_file_changed_since_is_read_again(mine):
    load(f"{mine}:tiny")
    mine.write_text(MINE.replace("WIDTH,", "WIDTH + 12,"))
    assert load(f"{mine}:tiny").layers["1"].units == 17


def test_a_file_called_as_a_known_module_does_not_take_its_place(mine):
    file = mine.rename(mine.with_name("torch.py"))
    assert load(f"{file}:tiny").name == f"{file.name}:tiny"
    assert sys.modules["torch"] is torch


FUNCTIONS = "tiny, named, sized, bare, forgetful, broken, leaving, refused"


@pytest.mark.parametrize(
    ("function", "kind", "saying"),
    [
        (":huge", UsageError, f"has no function 'huge': it has {FUNCTIONS}."),
        (":number", UsageError, f"has no function 'number': it has {FUNCTIONS}."),
        (":tiny:random", UsageError, "has no function 'tiny:random'"),
        ("", UsageError, f"mine.py:FUNCTION: it has {FUNCTIONS}."),
        (":", UsageError, f"mine.py:FUNCTION: it has {FUNCTIONS}."),
        (":sized", UsageError, "cannot be called without arguments: it takes (width)."),
        (":bare", DeconvnetError, "returned a ReLU: let it return deconvnet.Network(module, preprocessing)."),
        (":forgetful", DeconvnetError, "returned nothing: let it return"),
        (":broken", DeconvnetError, "failed in line 31 (ValueError: no such width)."),
        (":leaving", DeconvnetError, "failed in line 35 (SystemExit: 3)."),
        (":refused", DeconvnetError, "failed in line 39 (UsageError: A network needs the Preprocessing"),
    ],
)
def test_what_a_function_does_wrong_is_one_sentence(mine, function, kind, saying):
    assert saying in refusal(f"{mine}{function}", kind)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("import nowhere_to_be_found", "in line 1 (ModuleNotFoundError: No module named 'nowhere_to_be_found')."),
        ("\ndef net(:\n", "in line 2 (SyntaxError: "),
        ("import sys\nsys.exit()", "in line 2 (SystemExit)."),
        ("x = 1\n\nassert x == 2", "in line 3 (AssertionError)."),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(mine, text, saying):
    mine.write_text(text)
    assert f"{mine} cannot be imported {saying}" in refusal(f"{mine}:net")
    assert not any(getattr(module, "__file__", None) == str(mine) for module in list(sys.modules.values()))


def test_a_file_without_functions_says_what_to_write(mine):
    mine.write_text("from os import getcwd")
    assert "write one that returns deconvnet.Network(module, preprocessing)." in refusal(f"{mine}:net", UsageError)


def test_a_missing_file_is_named(tmp_path):
    assert refusal(f"{tmp_path}/gone.py:net") == f"There is no file {tmp_path / 'gone.py'}."
    assert refusal(r"C:\nets.python\gone.py:net") == r"There is no file C:\nets.python\gone.py."


def test_weights_and_preprocessing_belong_into_the_function(mine, described):
    for more in ({"weights": "a.pth"}, {"preprocessing": described}):
        with pytest.raises(UsageError, match="give neither weights nor preprocessing beside it"):
            load(f"{mine}:tiny", **more)
