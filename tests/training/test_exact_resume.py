"""A run that was stopped, however, ends in the files of one that never was."""

import csv
import errno
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deconvnet.errors import DeconvnetError
from deconvnet.training import train
from helpers import killing_training
from helpers.small_training import RECIPE, results

checkpoint = sys.modules["deconvnet.training.checkpoint"]


def rows(text):
    return [[float(value) for value in row] for row in list(csv.reader(io.StringIO(text)))[1:]]


def test_a_run_killed_and_stopped_again_and_again_by_one_and_two_processes(tmp_path):
    """The program compares every file with those of a run that was never stopped."""
    program = subprocess.run(
        [sys.executable, killing_training.__file__, tmp_path, "1"], capture_output=True, text=True, timeout=500
    )
    assert program.returncode == 0, program.stderr
    found = json.loads(program.stdout)
    assert [stop["status"] for stop in found["stops"]] == [-15, -15]
    assert [(stop["steps"], stop["saved"]) for stop in found["stops"]] == [(8, 8), (8, 8)]
    assert {-9} <= {kill["status"] for kill in found["kills"]}
    assert len({kill["steps"] for kill in found["kills"]}) > 3
    for one, two in zip(found["one"], found["two"], strict=True):
        assert len(rows(one)) in (2, 10)
        for ours, theirs in zip(rows(one), rows(two), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.fixture
def begun(small_zfnet, photos, tmp_path, monkeypatch):
    """Train two of three epochs, with a checkpoint after each; then the function that goes on."""
    validate, calls = sys.modules["deconvnet.training.loop"].validate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*arguments)

    def go_on():
        return results(train("zfnet", photos, tmp_path / "run", RECIPE).parent)

    with monkeypatch.context() as patch:
        patch.setattr("deconvnet.training.loop.validate", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            go_on()
    assert "What is done so far is kept in" in caught.value.__notes__[0]
    return go_on


def test_damaged_checkpoints(begun, small_zfnet, photos, tmp_path):
    wanted = results(train("zfnet", photos, tmp_path / "undisturbed", RECIPE).parent)
    newest, previous = tmp_path / "run" / "checkpoint.safetensors", tmp_path / "run" / "checkpoint.previous.safetensors"
    whole = newest.read_bytes(), previous.read_bytes()
    for damaged in (b"", whole[0][:1000], whole[0][:-1], b"x" * 5000):
        newest.write_bytes(damaged)
        previous.write_bytes(damaged)
        with pytest.raises(DeconvnetError, match=r"is damaged, and so is the one before it: remove"):
            begun()
    previous.write_bytes(whole[1])
    assert begun() == wanted


def test_a_full_disk_keeps_the_last_good_checkpoint(begun, small_zfnet, photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(descriptor):
            left.pop()
            if not left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        for calls, file in ((1, "The logs"), (3, r"checkpoint\.safetensors")):
            left = [1] * calls
            with pytest.raises(DeconvnetError, match=rf"{file} cannot be written: No space left on device\."):
                begun()
    kept = [file for file in (tmp_path / "run").glob("checkpoint*") if file.stat().st_size]
    assert kept
    assert begun() == results(train("zfnet", photos, tmp_path / "undisturbed", RECIPE).parent)
    assert not list((tmp_path / "run").glob(".*partial*"))


def test_a_finished_run_is_left_alone_and_another_is_refused(small_zfnet, photos, tmp_path):
    recipe = replace(RECIPE, epochs=1)
    weights = train("zfnet", photos, tmp_path / "run", recipe)
    before = weights.stat().st_mtime_ns
    assert stat.S_IMODE(weights.stat().st_mode) == stat.S_IMODE((tmp_path / "run" / "log.csv").stat().st_mode)
    assert train("zfnet", photos, tmp_path / "run", recipe) == weights
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(DeconvnetError, match=r"another recipe \(epochs = 1, not 3\)"):
        train("zfnet", photos, tmp_path / "run", RECIPE)
    with pytest.raises(DeconvnetError, match=r"another seed \(0, not 1\)"):
        train("zfnet", photos, tmp_path / "run", recipe, seed=1)
    with pytest.raises(DeconvnetError, match="exists already and is no training run"):
        train("zfnet", photos, photos, recipe)
    assert Path(weights).name == "weights.safetensors"
