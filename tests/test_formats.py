"""What version 0.1.0 wrote is read, resumed, merged and finished, with the same results.

The files are in tests/fixtures/formats-0.1; its make.py says how they came about. No path is part of any key, so each test
works in a copy of its own; where a file only tells of a path, `PLACE` stands for the folder that the commands were given in.
"""

import csv
import json
import math
import os
import shlex
import shutil
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load as load_tensors

import deconvnet
from deconvnet import cli
from deconvnet.data import find_images
from deconvnet.local_response_norm import LRNConstants
from deconvnet.mining import MiningState, merge_parts
from deconvnet.models import ARCHITECTURES, AlexNetOptions, ZFNetOptions, save_weights
from deconvnet.training import read_recipe
from helpers import small_training, thin_networks

FIXTURE = Path(__file__).parent / "fixtures" / "formats-0.1"
PLACE = "/place"

COMMANDS = json.loads((FIXTURE / "commands.json").read_text())
MADE = json.loads((FIXTURE / "made.json").read_text())

#: What differs from time to time and from machine to machine.
_PASSING = {"versions", "made_with", "hardware", "seconds", "estimated", "finished"}
#: What later versions say in addition.
_ADDED = {"field_status", "status"}


@pytest.fixture(autouse=True)
def _sums():
    """Convolutions as sums of products, which are exact in the fixture's network: NNPACK takes Fourier transforms."""
    with torch.backends.nnpack.flags(enabled=False):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the commands were given in, as it was before the first of them."""
    folder = tmp_path / "place"
    shutil.copytree(FIXTURE / "materials", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def give(folder, monkeypatch, capsys):
    """Give a command of `COMMANDS`; returns the JSON that it has written or printed, if it does."""

    def give(name):
        networks = {"": {}, "small": {"zfnet": small_training.SMALL}, "thin": thin_networks.THIN}
        command = COMMANDS[name]
        with monkeypatch.context() as patch:
            patch.setattr(thin_networks, "MAPS", 4)
            for network, architecture in networks[command["with"]].items():
                patch.setitem(ARCHITECTURES, network, architecture)
            patch.setattr(sys, "argv", ["deconvnet", *shlex.split(command["words"])])
            try:
                cli.main()
            except SystemExit as stop:
                assert not stop.code, capsys.readouterr().err  # noqa: PT017
        printed = capsys.readouterr().out
        if command["writes"] is None:
            return None
        text = Path(command["writes"]).read_text() if command["writes"] else printed
        return json.loads(text.replace(os.getcwd(), PLACE))

    return give


def unfinished(name, state="unfinished"):
    """Put what a killed (or a `state` "finished") command left where it lay."""
    source = FIXTURE / state / name
    if source.is_dir():
        shutil.copytree(source, name)
    elif source.is_file():
        shutil.copy(source, name)
    else:
        with tarfile.open(source.with_name(f"{name}.tar.xz")) as archive:
            archive.extractall(filter="data")
    return Path(name)


def expected(name):
    return json.loads((FIXTURE / "json" / f"{name}.json").read_text())


def same(found, wanted, where="", but=_PASSING):
    """Same keys, in the same order, same texts and whole numbers; other numbers but for rounding. Of `but`, keys only."""
    if isinstance(wanted, dict):
        assert [key for key in found if key in wanted or key not in _ADDED] == list(wanted), where
        for key in wanted:
            if key not in but:
                same(found[key], wanted[key], f"{where}.{key}", but)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            same(ours, theirs, f"{where}[{number}]", but)
    elif isinstance(wanted, float) and not math.isnan(wanted):
        assert isinstance(found, float), where
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4), where
    else:
        assert type(found) is type(wanted), where
        assert found == wanted or found != found, where


def same_file(found, wanted):
    """Tables and tensors to the byte, archives and pictures by what is in them."""
    assert found.is_file(), found
    if wanted.suffix == ".npz":
        with np.load(found) as ours, np.load(wanted) as theirs:
            assert ours.files == theirs.files
            for name in theirs.files:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name])
    elif wanted.suffix in (".webp", ".png"):
        with Image.open(found) as ours, Image.open(wanted) as theirs:
            assert ours.size == theirs.size
            # Another encoder, or another font, makes a little difference.
            difference = np.abs(np.asarray(ours.convert("RGB"), float) - np.asarray(theirs.convert("RGB"), float))
            assert difference.mean() < 4, found
    elif wanted.suffix == ".json":
        same(json.loads(found.read_text().replace(os.getcwd(), PLACE)), json.loads(wanted.read_text()), wanted.name)
    else:
        assert found.read_bytes() == wanted.read_bytes(), found


# Mining and atlases, of a network whose numbers are exact


def same_state(found, wanted):
    """State files that are the same to the bit but for the checksums of views, which version 0.1 did not keep."""
    ours, theirs = load_tensors(found), load_tensors(wanted)
    checksums = {name for name in ours if name.endswith("/views")}
    assert ours.keys() - checksums == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    descriptions = [MiningState.from_bytes(content, "it") for content in (found, wanted)]
    assert descriptions[0].key == descriptions[1].key
    assert descriptions[0].skipped == descriptions[1].skipped


def test_a_search_that_was_killed_goes_on(give):
    state = unfinished("mined.safetensors")
    assert 0 < load_tensors(state.read_bytes())["done"].sum() < 41
    done = load_tensors(state.read_bytes())["done"]
    give("mine")
    same_state(state.read_bytes(), (FIXTURE / "finished" / "mined.safetensors").read_bytes())
    mined = load_tensors(state.read_bytes())
    for layer in ("conv1", "conv2"):
        images, checksums = mined[f"{layer}/images"], mined[f"{layer}/views"]
        mined_now = (images >= 0) & ~done[images]
        assert torch.equal(checksums >= 0, mined_now)
        assert mined_now.any()


def test_parts_are_merged_and_mined_to_the_same_bytes(give):
    network, photos = deconvnet.load("network.py:one"), find_images("photos")
    parts = [FIXTURE / "finished" / f"part-{number}.safetensors" for number in (1, 2)]
    whole = (FIXTURE / "finished" / "mined.safetensors").read_bytes()
    same_state(merge_parts(network, photos, parts).to_bytes(), whole)
    for number, part in enumerate(parts, 1):
        give(f"part-{number}")
        same_state(Path(part.name).read_bytes(), part.read_bytes())


def test_a_whole_search_of_a_network_of_ours_is_taken(give, monkeypatch):
    """Its key tells its layers by what PyTorch prints of them."""
    monkeypatch.setattr(thin_networks, "MAPS", 4)
    monkeypatch.setitem(ARCHITECTURES, "alexnet2012", thin_networks.THIN["alexnet2012"])
    network, photos = deconvnet.load("alexnet2012", "weights/alexnet2012.safetensors"), find_images("photos")
    state = FIXTURE / "finished" / "mined-thin.safetensors"
    same_state(merge_parts(network, photos, [state]).to_bytes(), state.read_bytes())
    shutil.copy(state, state.name)
    give("mine-thin")  # which has nothing to do
    same_state(Path(state.name).read_bytes(), state.read_bytes())


def test_an_atlas_that_was_killed_is_finished(give):
    work = unfinished(".atlas.partial")
    drawn = json.loads((work / "drawn.json").read_text())["drawn"]
    assert {name: len(units) for name, units in drawn.items()} == {"conv1": 8}
    kept = (work / "atlas" / "conv1" / "0000.webp").read_bytes()
    same(give("atlas"), expected("atlas"))
    assert Path("atlas/conv1/0000.webp").read_bytes() == kept  # it was not drawn again
    wanted = FIXTURE / "finished" / "atlas"
    files = [file.relative_to(wanted) for file in wanted.rglob("*") if file.is_file()]
    assert len(files) > 100
    for file in files:
        same_file("atlas" / file, wanted / file)
    assert not work.exists()


def test_an_old_atlas_opens(folder):
    book = deconvnet.Atlas(FIXTURE / "finished" / "atlas")
    assert book.layers == ["conv1", "conv2"]
    assert len(book.units) == 32
    assert {"layer", "unit", "rank", "image", "value", "row", "column", "left", "top", "right", "bottom"} == set(
        book.hits[0]
    )
    assert book.picture("conv2", 3).mode == "RGB"
    assert book.figure("conv1", [0, 1]).size[0] > 100


# Packed sets


def test_packing_that_was_killed_goes_on(give):
    work = unfinished(".packed.partial")
    assert (work / "done-.npz").exists()
    before = Path("few/a/0.png").read_bytes()
    Path("few/a/0.png").write_bytes(b"x" * len(before))  # of the same size: it is not read again
    same(give("pack"), expected("pack"))
    ours = {file.name: file.read_bytes() for file in Path("packed").iterdir()}
    shutil.rmtree("packed")
    theirs = {file.name: file.read_bytes() for file in unfinished("packed", "finished").iterdir()}
    assert ours == theirs


def test_an_old_packed_set_is_read(folder):
    photos = find_images(unfinished("packed", "finished"))
    assert photos.paths == ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png")
    with Image.open("few/b/5.png") as photo:
        assert photos.read(5).tobytes() == photo.tobytes()


# Training, whose numbers depend on the processor


@pytest.fixture
def one_thread():
    """As when the fixture was made: several may add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_that_was_killed_goes_on(give, one_thread):
    run = unfinished("run")
    logs = {name: (run / name).read_bytes() for name in ("log.csv", "steps.csv")}
    with safe_open(run / "checkpoint.safetensors", framework="pt") as checkpoint:
        progress = json.loads(checkpoint.metadata()["progress"])
    assert (progress["epoch"], progress["step"]) == (2, 3)
    assert logs["steps.csv"].count(b"\n") == 1 + 9  # a step more, which is made again
    same(give("train"), expected("train"))
    for name, content in logs.items():
        whole = content[: progress["sizes"][name]]
        assert whole.count(b"\n") > 1
        assert (run / name).read_bytes().startswith(whole)
    run.rename("resumed")
    give("train")
    resumed, uninterrupted = (small_training.results(Path(name)) for name in ("resumed", "run"))
    run.rename("uninterrupted")
    finished = small_training.results(unfinished("run", "finished"))
    for found in (resumed, uninterrupted):
        assert found.keys() == finished.keys()
        close(found, finished)
    if MADE["processor"] == processor() and MADE["torch"] == version("torch"):
        assert resumed == uninterrupted == finished
    same(*(json.loads(Path(name, "run.json").read_text()) for name in ("uninterrupted", "run")))


def close(found, wanted):
    """As one run and another on a processor that rounds otherwise.

    Other kernels (two threads, or no oneDNN) change weights of this run by at most 1.5e-8, or 3e-6 of them.
    """
    for name, content in wanted.items():
        if name.endswith(".csv"):
            ours, theirs = (list(csv.reader(text.decode().splitlines())) for text in (found[name], content))
            assert ours[0] == theirs[0]
            assert np.array(ours[1:], float) == pytest.approx(np.array(theirs[1:], float), rel=1e-4)
        else:
            ours, theirs = load_tensors(found[name]), load_tensors(content)
            assert ours.keys() == theirs.keys()
            for tensor, value in theirs.items():
                assert ours[tensor].dtype == value.dtype
                rounding = 2e-3 if value.dtype == torch.float16 else 1e-4
                torch.testing.assert_close(ours[tensor], value, rtol=rounding, atol=1e-6)


def processor():
    """What rounding may depend on, as make.py wrote it down."""
    kept = ("vendor_id", "cpu family", "model", "model name", "stepping")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    words = [found.get(name, "") for name in kept]
    return ", ".join([*words, torch.backends.cpu.get_cpu_capability()])


def test_an_old_run_is_shown(give):
    unfinished("run", "finished")
    # Photos are squares of one colour, in which an activation is the same at several places, but for rounding.
    same(give("evolve"), expected("evolve"), but=_PASSING | {"row", "column", "box"})


def test_an_ablation_that_was_killed_goes_on(give):
    out = unfinished("ablation")
    first = out / "alexnet2012-no34" / "weights.safetensors"
    before = first.stat().st_mtime_ns
    found, wanted = give("ablate"), expected("ablate")
    same(found, wanted)
    assert first.stat().st_mtime_ns == before
    assert [row["label"] for row in found["rows"] if row["ours"]] == ["alexnet2012-no34", "alexnet2012-no3467"]


# Weights, descriptions and recipes

CONTRAST = LRNConstants(n=3, alpha=5e-4, beta=0.5, k=1.0)
OPTIONS = {
    "alexnet2012": AlexNetOptions(classes=3, hidden=8, contrast=CONTRAST),
    "zfnet": ZFNetOptions(classes=3, hidden=8, middle=(4, 4, 4), contrast=CONTRAST, order="norm-pool", fc7=6, removed=(4,)),
}


@pytest.mark.parametrize("name", ["alexnet2012", "zfnet", "bare"])
def test_old_weights_make_the_same_network(folder, monkeypatch, name):
    monkeypatch.setattr(thin_networks, "MAPS", 4)
    for architecture, thin in thin_networks.THIN.items():
        monkeypatch.setitem(ARCHITECTURES, architecture, thin)
    kind, file = ("zfnet" if name == "bare" else name), Path(f"weights/{name}.safetensors")
    network = deconvnet.load(kind, file, "weights/bare.toml" if name == "bare" else None)
    wanted = json.loads(Path("weights/described.json").read_text())[name]
    assert {"digest": network.digest, "layers": list(network.layers), "full_name": network.full_name} == wanted
    assert network.classes == (("n0", "ant"), ("n1", "bee"), ("n2", "cat"))
    assert network.module.options == OPTIONS[kind]
    if name != "bare":
        save_weights(network, Path("again.safetensors"), torch.float16 if name == "zfnet" else torch.float32)
        assert Path("again.safetensors").read_bytes() == file.read_bytes()


def test_an_old_recipe_says_the_same(folder):
    unfinished("run", "finished")
    written = json.loads(Path("run/run.json").read_text())["recipe"]
    assert json.loads(json.dumps(read_recipe("recipe.toml").entries())) == written
    assert len(written) == 18


# Everything else that commands write


@pytest.mark.parametrize(
    "name",
    ["compare", "invariance", "occlude", "correspond", "sanity", "evaluate", "networks", "look", "project", "sizes"],
)
def test_a_command_writes_the_same_json(give, name):
    same(give(name), expected(name))


def test_a_report_that_was_killed_is_finished(give):
    out = unfinished("report")
    before = json.loads((out / "report.json").read_text())
    assert ["seconds" in step for step in before["steps"].values()] == [True, True, False]
    found, wanted = give("reproduce"), expected("reproduce")
    same(found, {**wanted, "command": found["command"]})
    assert [found["steps"][name] for name in list(before["steps"])[:2]] == list(before["steps"].values())[:2]
    assert "Not run yet" not in (out / "index.html").read_text()
