"""Commands on a network by the shape of its input: those that read photos refuse it in one sentence and leave nothing."""

import pytest
from PIL import Image

SOURCE = """
import torch
from torch import nn
from deconvnet import Network

def net():
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 6, (5, 3))
    module = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    return Network(module, input_shape=(1, 28, 40), name="scans")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.effect_noise((60, 50), 60).convert("RGB").save(tmp_path / "photos" / name / "photo.png")
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "look mine.py:net photos/a/photo.png --out out.png",
        "project mine.py:net photos/a/photo.png --layer 1 --unit 0 --out out.png",
        "atlas mine.py:net photos --out out",
        "mine mine.py:net photos --part 1/2 --out out.safetensors",
        "occlude mine.py:net photos/a/photo.png --size 5 --out out",
        "invariance mine.py:net photos/a/photo.png --out out",
        "compare mine.py:net mine.py:net photos --out out",
        "sanity mine.py:net photos/a/photo.png --out out",
        "evaluate mine.py:net photos",
        "explore --network mine.py:net",
    ],
    ids=lambda words: words.split()[0],
)
def test_a_command_that_reads_photos_refuses_it(deconvnet_command, folder, words):
    before = sorted(folder.rglob("*"))
    code, printed, error = deconvnet_command(*words.split())
    assert code == 2, error
    assert printed == ""
    assert error.splitlines()[-1].startswith("deconvnet: scans has no preprocessing, so it cannot be shown photos: pass a ")
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before


def test_its_layers_are_listed_and_it_is_checked(deconvnet_command, folder):
    code, printed, error = deconvnet_command("networks", "mine.py:net", "--json")
    assert code == 0, error
    assert '"input": [\n   1,\n   28,\n   40\n  ]' in printed
    code, printed, error = deconvnet_command("check", "mine.py:net")
    assert code == 0, error
    assert "24×38" in printed
    assert "exact" in printed
