"""An interrupted run, once resumed, ends in the files of an uninterrupted one, byte by byte."""

import csv
import errno
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from deconvnet.errors import DeconvnetError
from deconvnet.training import train as train_anywhere
from helpers import killing_training
from helpers.small_training import RECIPE, results

checkpoint = sys.modules["deconvnet.training.checkpoint"]

train = partial(train_anywhere, device="cpu")


def rows(text):
    return [[float(value) for value in row] for row in list(csv.reader(io.StringIO(text)))[1:]]


@pytest.mark.slow
def test_a_run_killed_and_stopped_again_and_again_by_one_and_two_processes(tmp_path):
    """The program compares every file with those of a run that was never stopped."""
    program = subprocess.run(
        [sys.executable, killing_training.__file__, tmp_path, "1"], capture_output=True, text=True, timeout=500
    )
    assert program.returncode == 0, program.stderr
    report = json.loads(program.stdout)
    assert [stop["status"] for stop in report["stops"]] == [-15, -15]
    assert [(stop["steps"], stop["saved"]) for stop in report["stops"]] == [(8, 8), (8, 8)]
    assert {-9} <= {kill["status"] for kill in report["kills"]}
    assert len({kill["steps"] for kill in report["kills"]}) > 3
    for log, log_of_two in zip(report["one_process"], report["two_processes"], strict=True):
        assert len(rows(log)) in (2, 10)
        for row, row_of_two in zip(rows(log), rows(log_of_two), strict=True):
            assert row == pytest.approx(row_of_two, rel=1e-5)


@pytest.fixture
def resume(small_zfnet, photos, tmp_path, monkeypatch):
    """Train two of three epochs, with a checkpoint after each; returns the function that resumes the run."""
    validate, calls = sys.modules["deconvnet.training.trainer"]._validate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*arguments)

    def resume():
        return results(train("zfnet", photos, tmp_path / "run", RECIPE).parent)

    with monkeypatch.context() as patch:
        patch.setattr("deconvnet.training.trainer._validate", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            resume()
    assert "What is done so far is kept in" in caught.value.__notes__[0]
    return resume


def test_damaged_checkpoints(resume, small_zfnet, photos, tmp_path):
    expected = results(train("zfnet", photos, tmp_path / "undisturbed", RECIPE).parent)
    newest, previous = tmp_path / "run" / "checkpoint.safetensors", tmp_path / "run" / "checkpoint.previous.safetensors"
    newest_content, previous_content = newest.read_bytes(), previous.read_bytes()
    for damaged in (b"", newest_content[:1000], newest_content[:-1], b"x" * 5000):
        newest.write_bytes(damaged)
        previous.write_bytes(damaged)
        with pytest.raises(DeconvnetError, match=r"is damaged, and so is the one before it: remove"):
            resume()
    previous.write_bytes(previous_content)
    assert resume() == expected


def test_a_full_disk_keeps_the_last_good_checkpoint(resume, small_zfnet, photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full_disk(descriptor):
            remaining_calls.pop()
            if not remaining_calls:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full_disk)
        for calls, file in ((1, "The logs"), (3, r"checkpoint\.safetensors")):
            remaining_calls = [1] * calls
            with pytest.raises(DeconvnetError, match=rf"{file} cannot be written: No space left on device\."):
                resume()
    kept = [file for file in (tmp_path / "run").glob("checkpoint*") if file.stat().st_size]
    assert kept
    assert resume() == results(train("zfnet", photos, tmp_path / "undisturbed", RECIPE).parent)
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
