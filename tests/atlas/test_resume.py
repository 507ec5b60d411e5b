"""An atlas whose building was killed, stopped, or divided among processes or parts equals an undisturbed one to the byte."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from PIL import Image

from deconvnet import Atlas, DeconvnetError, UsageError
from deconvnet.atlas import build, draw_units
from deconvnet.atlas.build import build_atlas
from deconvnet.atlas.build_progress import AtlasWork
from deconvnet.atlas.tables import Tables
from deconvnet.data import find_images
from deconvnet.distributed import Processes
from deconvnet.mining import MiningState, mine_part
from helpers import killing
from helpers.killing import files


@pytest.fixture(scope="module", autouse=True)
def _groups_of_three():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw_units, "_HITS_IN_GROUP", 27)
        patch.setattr(draw_units, "_MAX_QUEUED", 1)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hundred") / "photos"
    killing.write_photos(folder)
    return folder


@pytest.fixture(scope="module")
def network():
    return killing.network()


@pytest.fixture(scope="module")
def undisturbed(network, photos):
    return files(Atlas.build(network, photos, photos.parent / "undisturbed").folder)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_ten_times_and_made_by_one_to_three_processes(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, killing.__file__, tmp_path, "1"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert len(summary["kills"]) == 10
    assert summary["finished"] >= 4
    assert {kill["drawn"] for kill in summary["kills"]} == {True, False}  # some while mining, some while drawing
    assert {kill["count"] for kill in summary["kills"]} == {1, 2, 3}


@pytest.mark.parametrize("parts", [[(1, 2), (2, 2)], [(3, 4), (1, 2), (4, 4)]])
def test_merged_parts(network, photos, undisturbed, tmp_path, parts):
    states = []
    for part in parts:
        states.append(tmp_path / f"{part[0]}-{part[1]}.safetensors")
        mine_part(network, find_images(photos), states[-1], part)
    Atlas.build(network, photos, tmp_path / "atlas", parts=states)
    assert files(tmp_path / "atlas") == undisturbed


@contextmanager
def stopped_at(owner, name, call, error):
    """The `call`-th call of a function raises `error`."""
    calls, original = [], getattr(owner, name)

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise error
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopping)
        yield


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "name", "call", "kept"),
    [
        (os, "fsync", 1, False),  # work.json
        (os, "fsync", 2, False),  # the state
        (Tables, "write", 1, True),
        (os, "fsync", 3, True),  # drawn.json
        (os, "fsync", 4, True),
        (draw_units, "save_picture", 1, True),
        (draw_units, "save_picture", 40, True),
        (build, "save_picture", 1, True),
        (build, "write_pages", 1, True),
        (Path, "rename", 1, True),
    ],
)
def test_a_full_disk_leaves_what_was_done(network, photos, undisturbed, tmp_path, monkeypatch, owner, name, call, kept):
    out = tmp_path / "atlas"
    full = pytest.raises(DeconvnetError, match=r"written.*: No space left on device")
    with stopped_at(owner, name, call, FULL), full as caught:
        Atlas.build(network, photos, out)
    assert [path.name for path in tmp_path.iterdir()] == ([".atlas.partial"] if kept else [])
    assert [str(tmp_path / ".atlas.partial") in note for note in getattr(caught.value, "__notes__", [])] == [True] * kept
    with monkeypatch.context() as patch:
        if kept:
            patch.setattr(MiningState, "add", None)  # nothing is mined again
        Atlas.build(network, photos, out)
    assert files(out) == undisturbed
    assert list(tmp_path.iterdir()) == [out]


def test_drawing_goes_on_after_the_last_finished_group(network, photos, undisturbed, tmp_path, monkeypatch, capsys):
    with stopped_at(draw_units, "project_units", 3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        Atlas.build(network, photos, tmp_path / "atlas")
    record = json.loads((tmp_path / ".atlas.partial" / "drawn.json").read_text())
    drawn = record["drawn"]
    drawn["conv1"]["1"] = 0.5  # a difference that is remembered
    (tmp_path / ".atlas.partial" / "drawn.json").write_text(json.dumps(record))
    capsys.readouterr()
    groups, original = [], draw_units.project_units
    monkeypatch.setattr(
        draw_units, "project_units", lambda n, h, units, **o: groups.append(units) or original(n, h, units, **o)
    )
    built = Atlas.build(network, photos, tmp_path / "atlas", progress=True)
    before = sum(map(len, drawn.values()))
    assert 3 <= before < 11
    assert sum(map(len, groups)) == 11 - before
    message = capsys.readouterr().err
    assert "Resuming: 100 of 100 photos were mined.\n" in message
    assert f"Resuming: {before} of 11 units were drawn.\n" in message
    assert built.description["layers"][0]["largest_difference"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["conv2"]}, r"other layers \(conv1, conv2\)"),
        ({"units": [0, 1]}, "other units"),
        ({"top": 4}, "top = 9"),
        ({"images": "a"}, "other photos"),
        ({"network": 7}, "another network"),
        ({"weights": "mine"}, r"another network \(network\)"),
    ],
)
def test_unfinished_work_of_another_kind_is_refused_and_kept(network, photos, tmp_path, monkeypatch, change, message):
    with stopped_at(build, "write_pages", 1, FULL), pytest.raises(DeconvnetError):
        Atlas.build(network, photos, tmp_path / "atlas")
    before = files(tmp_path)
    if change.pop("network", None):
        network = killing.network()
        with torch.no_grad():
            network.module[3].bias[0] += 1
    if weights := change.pop("weights", ""):  # they stand on every picture
        network = killing.network()
        network.weights = weights
    images = photos / change.pop("images", "")
    with pytest.raises(
        DeconvnetError, match=rf"\.atlas\.partial holds an unfinished atlas with {message}: .*remove that folder"
    ):
        Atlas.build(network, images, tmp_path / "atlas", **change)
    assert files(tmp_path) == before


def test_an_unfinished_fast_atlas_is_refused_and_kept(network, photos, tmp_path):
    """Version 0.1 could also search in bfloat16, with --fast."""
    with stopped_at(build, "write_pages", 1, FULL), pytest.raises(DeconvnetError):
        Atlas.build(network, photos, tmp_path / "atlas")
    work_file = tmp_path / ".atlas.partial" / "work.json"
    work = json.loads(work_file.read_text())
    work["key"]["fast"] = True
    work_file.write_text(json.dumps(work))
    before = files(tmp_path)
    refusal = r"^[^\n]*holds an unfinished atlas with a search with --fast, [^\n]*\.$"
    with pytest.raises(DeconvnetError, match=refusal) as caught:
        Atlas.build(network, photos, tmp_path / "atlas")
    assert not hasattr(caught.value, "__notes__")
    assert files(tmp_path) == before


def test_the_option_fast_says_that_it_is_gone(photos, tmp_path, monkeypatch, capsys):
    from deconvnet import cli

    monkeypatch.setattr(sys, "argv", f"deconvnet atlas zfnet {photos} --out {tmp_path / 'atlas'} --fast".split())
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "deconvnet: --fast is gone: the exact search is as quick. Leave it out.\n"
    assert not list(tmp_path.iterdir())


def test_pictures_of_other_hits_are_drawn_again(network, photos, undisturbed, tmp_path, monkeypatch):
    """Parts that were mined elsewhere may differ by rounding from what was drawn here."""
    with stopped_at(build, "write_pages", 1, FULL), pytest.raises(DeconvnetError):
        Atlas.build(network, photos, tmp_path / "atlas")
    record = tmp_path / ".atlas.partial" / "drawn.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"hits": "others"}))
    for picture in ("conv1/0000.webp", "images/99999.webp"):
        Image.new("RGB", (9, 9)).save(tmp_path / ".atlas.partial" / "atlas" / picture)
    assert files(Atlas.build(network, photos, tmp_path / "atlas").folder) == undisturbed


def test_units_whose_pictures_are_lost_are_drawn_again(network, photos, undisturbed, tmp_path):
    """A power cut may leave empty files."""
    with stopped_at(build, "write_pages", 1, FULL), pytest.raises(DeconvnetError):
        Atlas.build(network, photos, tmp_path / "atlas")
    folder = tmp_path / ".atlas.partial" / "atlas"
    (folder / "conv1" / "0004.webp").write_bytes(b"")
    (folder / "conv2" / "0003.webp").unlink()
    next((folder / "images").iterdir()).write_bytes(b"")
    assert files(Atlas.build(network, photos, tmp_path / "atlas").folder) == undisturbed


def test_a_kill_while_the_empty_folder_goes_leaves_nothing_in_the_way(network, photos, undisturbed, tmp_path):
    out = tmp_path / "atlas"
    with stopped_at(shutil, "rmtree", 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        Atlas.build(network, photos, out)
    assert files(out) == undisturbed
    assert (tmp_path / ".atlas.partial" / "drawn.json").exists()
    shutil.rmtree(out)
    assert files(Atlas.build(network, photos, out).folder) == undisturbed


@pytest.mark.parametrize(
    "damage",
    [{"drawn": None}, {"drawn": {"conv1": {"0": "x"}}}, {"drawn": {"conv1": 3}}, {"drawn": {"fc": {"99": 1}}}, {"hits": 1}],
)
def test_a_damaged_record_is_as_none(network, photos, undisturbed, tmp_path, damage):
    with stopped_at(build, "write_pages", 1, FULL), pytest.raises(DeconvnetError):
        Atlas.build(network, photos, tmp_path / "atlas")
    record = tmp_path / ".atlas.partial" / "drawn.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    assert files(Atlas.build(network, photos, tmp_path / "atlas").folder) == undisturbed


@pytest.mark.parametrize("place", ["empty", "dangling", "new/../atlas"])
def test_the_way_to_the_atlas_may_be_crooked(network, photos, undisturbed, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("empty").symlink_to("there")
    Path("dangling").symlink_to("nowhere")
    assert files(Atlas.build(network, photos, place).folder) == undisturbed
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("place", "message"),
    [(".", "the current folder"), ("new/..", "the current folder"), ("/proc", "a mount"), ("loop", "exists")],
)
def test_a_place_that_no_folder_can_take_is_refused_before_any_work(network, photos, tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    monkeypatch.setattr(network, "capture", None)
    before = sorted(tmp_path.iterdir())
    if place in (".", "new/.."):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=message):
        Atlas.build(network, photos, place)
    assert sorted(tmp_path.iterdir()) == before


def test_an_atlas_that_another_process_has_just_finished_leaves_no_folder(network, photos, tmp_path, monkeypatch):
    out, find = tmp_path / "atlas", build.find_items

    def found_late(images):
        out.mkdir()
        (out / "atlas.json").write_text("{}")
        return find(images)

    monkeypatch.setattr(build, "find_items", found_late)
    with pytest.raises(UsageError, match="exists already"):
        Atlas.build(network, photos, out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_save_that_was_killed_is_no_work(network, photos, tmp_path):
    folder = AtlasWork(tmp_path / "atlas").folder.path
    folder.mkdir()
    for name in (".mined.partial.safetensors", "..mined-process-1.partial.safetensors"):
        (folder / name).write_bytes(b"half")
    with stopped_at(build, "mine_remaining", 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        Atlas.build(network, photos, tmp_path / "atlas")
    assert not list(tmp_path.iterdir())


def test_other_machines_keep_no_folder(network, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "mine_remaining", lambda *arguments, **_: arguments[3].parent.mkdir())
    build_atlas(network, photos, tmp_path / "atlas", processes=Processes(1, 2))
    assert not list(tmp_path.iterdir())


def test_too_little_memory_says_what_is_kept(photos, tmp_path, monkeypatch, capsys):
    from deconvnet import cli

    network = killing.network()
    monkeypatch.setattr("deconvnet.models.load", lambda *_, **__: network)
    monkeypatch.setattr(sys, "argv", f"deconvnet atlas any {photos} --out {tmp_path / 'atlas'}".split())
    full = torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to")
    with stopped_at(draw_units, "project_units", 2, full), pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(
        "deconvnet: The device has too little memory for this: pass --device cpu (or, to atlas, a smaller"
    )
    assert f"What is done so far is kept in {tmp_path / '.atlas.partial'}" in message


def test_two_at_a_time_are_refused(network, photos, tmp_path):
    (tmp_path / ".atlas.partial").mkdir()
    with FileLock(tmp_path / ".atlas.partial" / "lock"), pytest.raises(DeconvnetError, match="Another process is making"):
        Atlas.build(network, photos, tmp_path / "atlas")


def test_an_atlas_that_appears_meanwhile_is_not_overwritten(network, photos, tmp_path, monkeypatch):
    out = tmp_path / "atlas"

    def other(*arguments):
        out.mkdir()
        (out / "atlas.json").write_text("{}")

    monkeypatch.setattr(build, "write_pages", other)
    with pytest.raises(DeconvnetError, match="cannot be written to"):
        Atlas.build(network, photos, out)
    assert files(out) == {"atlas.json": b"{}"}


@pytest.mark.parametrize("place", ["file/atlas", "/proc/atlas"])
def test_a_place_that_cannot_be_written_is_one_sentence(network, photos, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeconvnetError, match=r"cannot be written to: \w.*\.$"):
        Atlas.build(network, photos, tmp_path / place)


def test_photos_none_of_which_can_be_read_leave_nothing(network, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(DeconvnetError, match="None of the 1 photos"):
        Atlas.build(network, tmp_path / "photos", tmp_path / "atlas")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_it_with_a_sentence(photos, tmp_path, monkeypatch, capsys, name, code):
    from deconvnet import cli

    network = killing.network()
    monkeypatch.setattr("deconvnet.models.load", lambda *_, **__: network)
    monkeypatch.setattr(
        sys, "argv", f"deconvnet atlas any {photos} --out {tmp_path / 'atlas'} --batch-size 8 --workers 1".split()
    )
    batch_sizes, capture = [], network.capture

    def signalled(x, *rest):
        batch_sizes.append(len(x))
        if len(x) == 8 and batch_sizes.count(8) == 4:
            time.sleep(0.5)  # the batches before are in the state by then
            signal.raise_signal(getattr(signal, name))
        capture(x, *rest)

    monkeypatch.setattr(network, "capture", signalled)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == code
    assert printed.out == ""
    sentence = printed.err.strip().splitlines()[-1]
    assert sentence.startswith(f"deconvnet: Stopped. What is done so far is kept in {tmp_path / '.atlas.partial'}: the same")
    assert "Traceback" not in printed.err
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "Resuming: 24 of 100 photos were mined." in capsys.readouterr().err
