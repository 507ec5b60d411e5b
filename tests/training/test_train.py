"""Training as a whole: what it learns from, when it refuses or gives up, and the command."""

import json
import resource
import shutil
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from deconvnet import environment as memory
from deconvnet.data import find_images, pack
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import load
from deconvnet.training import read_log
from deconvnet.training import train as train_anywhere
from deconvnet.training.checkpoint import TrainingProgress
from deconvnet.training.trainer import TrainingDiverged, record_loss
from helpers.small_training import RECIPE, results

ONE = replace(RECIPE, epochs=1)

train = partial(train_anywhere, device="cpu")


def test_a_packed_set_its_folder_and_any_number_of_workers_train_alike(small_zfnet, photos, tmp_path):
    pack({name: find_images(photos / name) for name in ("train", "val")}, tmp_path / "packed")
    expected = results(train("zfnet", photos, tmp_path / "one", ONE, workers=1).parent)
    assert results(train("zfnet", photos, tmp_path / "four", ONE, workers=4).parent) == expected
    assert results(train("zfnet", tmp_path / "packed", tmp_path / "from-packed", ONE).parent) == expected
    assert results(train("zfnet", photos, tmp_path / "seed", ONE, seed=1).parent) != expected
    network = load("zfnet", weights=tmp_path / "one" / "weights.safetensors")
    assert network.weights == "3 classes, 1 epochs, seed 0"
    assert [name for name, _ in network.classes] == ["ant", "bee", "cat"]
    assert network.preprocessing.mean.shape == (3, 32, 32)
    assert (read_log(tmp_path / "one")[0]["val_error_top1"] * 9).is_integer()


def test_bfloat16_channels_last_and_tensorboard(small_zfnet, photos, tmp_path, monkeypatch, capsys):
    recipe = replace(ONE, precision="bfloat16", channels_last=True)
    run = train("zfnet", photos, tmp_path / "run", recipe).parent
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss", "learning_rate", "error/val_top1", "speed/waiting"} <= set(events.Tags()["scalars"])
    assert events.Scalars("error/val_top1")[0].value == pytest.approx(read_log(run)[0]["val_error_top1"])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    bare = train("zfnet", photos, tmp_path / "bare", recipe, progress=True).parent
    assert capsys.readouterr().err.count("the CSV logs only: tensorboard is not installed") == 1
    assert not (bare / "tensorboard").exists()
    assert results(bare) == results(run)


@pytest.mark.parametrize(
    ("capability", "precision", "said"), [("AVX2", "bfloat16", 1), ("AVX512", "bfloat16", 0), ("AVX2", "float32", 0)]
)
def test_a_processor_without_bfloat16_is_warned_of(
    small_zfnet, photos, tmp_path, monkeypatch, capsys, capability, precision, said
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    train("zfnet", photos, tmp_path / "run", replace(ONE, precision=precision), progress=True)
    assert capsys.readouterr().err.count("computes bfloat16 much slower") == said


def test_compiled_it_learns_the_same(small_zfnet, photos, tmp_path, monkeypatch):
    """Without the compiler behind it, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain, compiled = (
        train("zfnet", photos, tmp_path / str(way), replace(ONE, compile=way, dropout=0.0)).parent for way in (False, True)
    )
    assert read_log(compiled)[0]["train_loss"] == pytest.approx(read_log(plain)[0]["train_loss"], rel=1e-3)


def test_tf32_is_float32_on_a_cpu(small_zfnet, photos, tmp_path):
    plain, tf32 = (
        train("zfnet", photos, tmp_path / name, replace(ONE, precision=name)).parent for name in ("float32", "tf32")
    )
    assert results(plain) == results(tf32)
    with pytest.raises(UsageError, match="another recipe \\(precision = 'float32', not 'tf32'\\)"):
        train("zfnet", photos, plain, replace(ONE, precision="tf32"))


def test_tf32_is_allowed_on_a_gpu():
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    for precision, device, expected in (
        ("tf32", "cuda:1", "tf32"),
        ("tf32", "cpu", "ieee"),
        ("bfloat16", "cuda:1", "ieee"),
        ("float32", "cuda:1", "ieee"),
    ):
        with replace(ONE, precision=precision).float32_precision(torch.device(device)):
            assert (matmul.fp32_precision, conv.fp32_precision) == (expected, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_a_gpu(small_zfnet, photos, tmp_path, precision):
    recipe = replace(ONE, precision=precision, dropout=0.0)
    on_cpu, on_gpu = (train("zfnet", photos, tmp_path / device, recipe, device=device).parent for device in ("cpu", "cuda"))
    assert read_log(on_gpu)[0]["train_loss"] == pytest.approx(read_log(on_cpu)[0]["train_loss"], rel=1e-2)


def test_a_loss_that_is_no_number_or_stays_at_chance(small_zfnet, photos, tmp_path):
    with pytest.raises(
        TrainingDiverged, match=r"has diverged: try a recipe with a learning_rate below 1e\+06, in another folder"
    ):
        train("zfnet", photos, tmp_path / "nan", replace(ONE, learning_rate=1e6, max_filter_rms=0, schedule="plateau"))
    with pytest.raises(
        TrainingDiverged, match=r"for 6 steps, no better than chance \(1\.099\): try another seed, or .*\"he\""
    ) as why:
        train("zfnet", photos, tmp_path / "flat", replace(RECIPE, init="normal", chance_patience=6))
    assert not hasattr(why.value, "__notes__")
    progress = TrainingProgress()
    for step in range(400):  # it learns late
        record_loss(2.303 if step < 60 else 2.0, step, 10, replace(RECIPE, chance_patience=100), progress)
    assert progress.steps_at_chance == 0


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: shutil.rmtree(f / "val"), "There is no folder .*val: training takes a folder with train/ and val/"),
        (lambda f: shutil.rmtree(f / "train"), "There is no folder .*train"),
        (
            lambda f: (f / "train" / "ant" / "00.png").rename(f / "train" / "00.png"),
            "outside of class folders, such as 00.png",
        ),
        (lambda f: shutil.rmtree(f / "val" / "bee"), "1 have no photo in val, such as bee"),
        (lambda f: shutil.rmtree(f / "train" / "bee"), "1 have no photo in train, such as bee"),
        (
            lambda f: [shutil.rmtree(f / name / label) for name in ("train", "val") for label in ("ant", "bee")],
            "has one class only, cat",
        ),
        (
            lambda f: (f / "train" / "ant" / "00.png").write_bytes(b"no"),
            r"train/ant/00\.png .*: remove it, or train on what",
        ),
        (lambda f: (f / "val" / "bee" / "01.png").write_bytes(b"no"), r"val/bee/01\.png .*: remove it, or train on what"),
    ],
)
def test_data_that_cannot_be_used(small_zfnet, photos, tmp_path, spoil, sentence):
    shutil.copytree(photos, tmp_path / "photos")
    spoil(tmp_path / "photos")
    with pytest.raises(DeconvnetError, match=sentence) as caught:
        train("zfnet", tmp_path / "photos", tmp_path / "run", ONE)
    assert not hasattr(caught.value, "__notes__")  # for nothing is done yet


def test_a_run_without_a_step_is_replaced_by_another(small_zfnet, photos, tmp_path, monkeypatch):
    """After a failure nothing is left; after a kill before the first step, the record and perhaps the mean image."""
    for name in ("ant", "bee"):
        broken = tmp_path / "photos" / "val" / name / "broken.png"
        shutil.copytree(photos, tmp_path / "photos", dirs_exist_ok=True)
        broken.write_bytes(b"no")
        with pytest.raises(DeconvnetError, match="remove it"):
            train("zfnet", tmp_path / "photos", tmp_path / "run", ONE)
        broken.unlink()
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"format": 1, "network": "zfnet", "seed": 5}')
    (tmp_path / "run" / "mean.npy").write_bytes(b"of other photos")
    run = train("zfnet", tmp_path / "photos", tmp_path / "run", ONE).parent
    uninterrupted = train("zfnet", photos, tmp_path / "uninterrupted", ONE).parent
    assert results(run) == results(uninterrupted)

    monkeypatch.setattr(sys.modules["deconvnet.training.trainer"], "compute_mean", None)  # the same run keeps its mean
    (tmp_path / "killed").mkdir()
    for name in ("run.json", "mean.npy"):
        shutil.copy(uninterrupted / name, tmp_path / "killed" / name)
    assert results(train("zfnet", photos, tmp_path / "killed", ONE).parent) == results(uninterrupted)
    with pytest.raises(DeconvnetError, match="exists already and is no training run: choose another --out"):
        train("zfnet", photos, photos / "val" / "bee" / "01.png", ONE)


def test_a_batch_that_cannot_be_filled_or_shared(small_zfnet, photos, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="There are 22 photos to train on, fewer than a batch of 23"):
        train("zfnet", photos, tmp_path / "run", replace(ONE, batch_size=23))
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="A batch of 4 cannot be shared by 3 processes"):
        train("zfnet", photos, tmp_path / "run", ONE)


def test_the_command(small_zfnet, photos, tmp_path, deconvnet_command):
    recipe = tmp_path / "my.toml"
    recipe.write_text('epochs = 1\nbatch_size = 4\nlearning_rate = 0.05\ninitial = "he"\ndeviation = 58.0\n')

    def run(*words):
        return deconvnet_command("train", *words, "--device", "cpu")

    code, out, err = run("zfnet", photos, "--out", tmp_path / "run", "--recipe", recipe)
    assert (code, "of the photos in val are classified wrongly" in out) == (0, True), err
    assert "deconvnet evaluate zfnet:" in out
    assert "training zfnet" in err
    code, out, _ = run("zfnet", photos, "--out", tmp_path / "run", "--recipe", recipe, "--json")
    assert (code, json.loads(out)["epoch"], json.loads(out)["weights"]) == (0, 1, str(tmp_path / "run/weights.safetensors"))
    assert run("zfnet", photos, "--out", tmp_path / "run", "--recipe", "none")[0] == 2
    assert run("zfnet", photos, "--out", tmp_path / "run")[0] == 2  # 22 photos are no batch of 128
    assert run("zfnet", photos, "--out", tmp_path / "run", "--recipe", recipe, "--seed", "2")[0] == 2


def test_memory_that_is_kept_is_used_again():
    """And nothing happens where there is no mallopt."""
    memory.keep_freed_memory()
    largest = []
    for number in range(60):
        torch.ones(8_000_000 - 1000 * (number % 7))  # 32 MB
        largest.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert largest[-1] - largest[9] < 100_000  # kB
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory.ctypes, "CDLL", lambda _: object())
        memory.keep_freed_memory()
        patch.setattr(memory.sys, "platform", "darwin")
        memory.keep_freed_memory()
