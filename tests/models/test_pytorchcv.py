"""pytorchcv's ZFNets: their own module tree is the judge of what ours makes of their files."""

import hashlib
import zipfile
from dataclasses import replace

import pytest
import torch
from pytorchcv.models.zfnet import zfnet, zfnetb
from torch import nn

from deconvnet.models import load, registry
from deconvnet.models.pretrained import PRETRAINED


@pytest.mark.parametrize(("name", "build"), [("zfnet", zfnet), ("zfnet-wide", zfnetb)])
def test_a_published_file_computes_what_their_own_tree_computes(monkeypatch, tmp_path, name, build):
    with torch.device("meta"):
        theirs = build()
        theirs.output.fc1.fc = nn.Linear(theirs.output.fc1.fc.in_features, 16)  # 4096 in theirs, which takes its time
        theirs.output.fc2.fc = nn.Linear(16, 16)
        theirs.output.fc3 = nn.Linear(16, 7)
    theirs = theirs.to_empty(device="cpu").eval()
    for part in theirs.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(part.weight)
            nn.init.uniform_(part.bias, -1, 1)

    row = next(row for row in PRETRAINED if row.network == name and row.keyword == "pytorchcv")
    file, archive = tmp_path / row.file, tmp_path / "server.zip"
    torch.save(theirs.state_dict(), file)
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(file, file.name)
    file.unlink()
    known = {**row.metadata, "classes": None, "options": {**row.metadata["options"], "hidden": 16}}
    monkeypatch.setattr(registry, "PRETRAINED", (replace(row, sha1=sha1, url=archive.as_uri(), metadata=known),))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    found = load(f"{name}:pytorchcv")
    x = 60 * torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(x)
        assert torch.allclose(found.module(x), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert found.probabilities(x).shape == (1, 7)
