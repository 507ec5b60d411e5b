"""The script for a GPU, tried without one: parts that fail, all of it at toy size, and some on the emulated device."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deconvnet.data import find_images, pack
from helpers.emulated_accelerator import IS_AVAILABLE, emulated

ROOT = Path(__file__).parents[2]

#: Starts a process, prints its id and waits.
HANGS = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("on_gpu")


def test_what_fails_or_hangs_is_recorded_and_the_rest_goes_on(on_gpu, tmp_path):
    result = tmp_path / "result.json"
    parts = [
        on_gpu.Part("fails", ["-c", "print('before'); raise SystemExit('it is broken')"], 60),
        on_gpu.Part("hangs", ["-c", HANGS], 2),
        on_gpu.Part("works", ["-c", f"open({str(result)!r}, 'w').write('[1]')"], 60, result),
    ]
    start = time.monotonic()
    on_gpu.run_parts(parts, 600, tmp_path, {"gpus": []}, dict(os.environ))
    assert time.monotonic() - start < 60
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["gpus"] == []
    fails, hangs, works = written["parts"]
    assert (fails["outcome"], fails["exit_code"], fails["last_lines"]) == ("failed", 1, ["before", "it is broken"])
    assert (hangs["outcome"], hangs["limit"]) == ("stopped at its limit", 2)
    assert not is_running(int(hangs["last_lines"][0]))
    assert (works["outcome"], works["result"]) == ("done", [1])
    log = (tmp_path / "log.txt").read_text()
    assert log.index("fails: failed") < log.index("it is broken") < log.index("hangs: stopped") < log.index("works: done")


def is_running(process_id: int) -> bool:
    """Whether there is such a process, and it is no zombie that nobody waits for."""
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_there_is_no_time_for_is_recorded(on_gpu, tmp_path):
    parts = [on_gpu.Part(name, ["-c", "raise SystemExit(1)"], 60) for name in ("one", "other")]
    entries = on_gpu.run_parts(parts, on_gpu.RESERVE - 1, tmp_path, {}, dict(os.environ))
    assert entries == [{"part": name, "outcome": "not run, as the time is over"} for name in ("one", "other")]


def test_two_cards_and_photos_add_parts(on_gpu, tmp_path):
    def names(images, cards):
        return [part.name for part in on_gpu.plan("cuda", False, images, cards, tmp_path, tmp_path)]

    assert names(None, 1) == [name for name in names(tmp_path, 2) if not name.startswith("two-ranks") and "seed" not in name]
    assert names(tmp_path, 2)[-4:] == ["alexnet2012-seed-0", "zfnet-seed-0", "alexnet2012-seed-1", "zfnet-seed-1"]
    assert sum(name.startswith("two-ranks") for name in names(tmp_path, 2)) == 2


def test_photos_of_a_folder_and_of_a_packed_set(on_gpu, images, tmp_path):
    prepare = importlib.import_module("gpu_photos").main
    for name in ("train", "val"):
        shutil.copytree(images, tmp_path / "imagenette" / name)
    prepare(tmp_path / "folder", tmp_path / "imagenette", jpegs=4)
    prepare(tmp_path / "packed", tmp_path / "folder" / "packed", jpegs=4)
    for made in ("folder", "packed"):
        assert {file.suffix for file in (tmp_path / made / "jpegs").rglob("*.*")} == {".jpg"}
        assert len(find_images(tmp_path / made / "jpegs")) == 4
        assert len(find_images(tmp_path / made / "packed" / "train")) == 10


@pytest.mark.slow
def test_all_of_it_at_toy_size(tmp_path):
    bundled = ROOT / "src" / "deconvnet" / "models" / "bundled"
    before = {file: file.stat().st_mtime_ns for file in bundled.rglob("*")}
    command = [ROOT / "benchmarks" / "on_gpu.sh", *"--device cpu --toy --minutes 60 --out".split(), tmp_path / "out"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(part["part"], part["last_lines"]) for part in results["parts"] if part["outcome"] != "done"] == []
    assert done.returncode == 0, done.stderr
    without_result = {part["part"] for part in results["parts"] if "result" not in part}
    assert without_result == {"tests", "photos", "two-ranks-mining"}
    files = list((tmp_path / "out").iterdir())
    assert {file.name for file in files if file.suffix != ".safetensors"} == {"results.json", "log.txt"}
    assert len(files) == 6 <= 8
    assert max(file.stat().st_size for file in files) <= 16e6
    assert {file: file.stat().st_mtime_ns for file in bundled.rglob("*")} == before


#: By benchmark, what it is given on the emulated device; `step` computes in bfloat16 and float64, captum in inference mode,
#: which that does not have.
EMULATED = {
    "layout": {"networks": "zfnet", "dtypes": "float32", "batches": "1", "batch": 1, "count": 1, "repeats": 1},
    "loading": {"photos": 8, "batch": 4, "repeats": 1},
    "mining": {"photos": 9, "batches": "8", "workers": 0, "repeats": 1},
    "packed_mining": {"batch_sizes": "4", "repeats": 1},
}


@pytest.mark.slow
@pytest.mark.skipif(not IS_AVAILABLE, reason="no hook for devices written in Python in this PyTorch, or a GPU")
@pytest.mark.parametrize("name", EMULATED)
def test_a_benchmark_runs_on_the_emulated_device(run, images, tmp_path, name):
    options = dict(EMULATED[name])
    if name == "packed_mining":
        options["packed"] = pack({"": find_images(images)}, tmp_path / "packed")[""].root
    elif name != "layout":
        options["images"] = images
    with emulated():
        assert run(name, **options, device="emu")["rows"]


@pytest.mark.skipif(not IS_AVAILABLE, reason="no hook for devices written in Python in this PyTorch, or a GPU")
def test_rounding_of_the_emulated_device(on_gpu, tmp_path):
    with emulated(3e-6):
        importlib.import_module("rounding").main(networks="zfnet", batch=2, device="emu", out=tmp_path / "rounding.json")
    for layer in json.loads((tmp_path / "rounding.json").read_text())["networks"]["zfnet"].values():
        assert all(1e-8 < value < 1e-3 for value in layer.values())
