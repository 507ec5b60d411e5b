"""Everything that needs a GPU: the tests marked `gpu`, the benchmarks, and training, one part after the other.

    benchmarks/on_gpu.sh [--out FOLDER] [--images IMAGENETTE] [--minutes 10] [--only PART…]

Each part is a process with its own time limit. If it fails, or is killed at its limit, that is recorded and the next one
starts; when the minutes are over, the remaining parts are recorded as not run. FOLDER gets results.json, which is rewritten
after every part, log.txt with the output of the parts, and the weights of the networks that were trained: at most six files,
none above 16 MB.

It needs Python and PyTorch, and begins by naming other packages that are missing. deconvnet need not be installed; nor need
the wheels in the folder --wheels, which are unpacked. This file itself imports only the standard library.
"""

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]

#: What should be importable, and what does not work where it is not.
MODULES = {
    **dict.fromkeys(("torch", "numpy", "PIL", "pydantic", "rich", "typer", "safetensors", "filelock"), "everything"),
    "scipy": "some of the tests",
    "matplotlib": "some of the tests, and occlusion",
    "pytest": "the tests",
    "skimage": "all that takes photos, unless --images is given",
    "torchvision": "torchvision's alexnet, and the scripts to compare with",
    "captum": "comparisons with captum",
}

#: Seconds to spare for stopping a part and writing the results; no part starts with fewer left.
RESERVE = 10.0
#: How much of a part's output is kept: bytes in the log, lines in the results.
LOGGED_BYTES, SHOWN_LINES = 500_000, 12

NETWORKS = ("alexnet2012", "zfnet")


@dataclass(frozen=True)
class Part:
    """One process."""

    name: str
    command: Sequence[object]
    """Arguments of Python."""
    limit: float
    """Seconds."""
    result: Path | None = None
    """The JSON that it writes."""


def plan(device: str, toy: bool, images: Path | None, cards: int, folder: Path, out: Path) -> Iterator[Part]:
    """The parts in order, the longest last. `folder` is for what is not kept."""
    photos = folder / "photos"
    jpegs, packed = photos / "jpegs", photos / "packed"
    given = ("--images", images) if images else ()

    def script(
        name: str, limit: float, file: str, *words: object, full: str = "", small: str = "", launch: str = ""
    ) -> Part:
        """A script of benchmarks/, with what it is given at full and at toy size."""
        result = folder / f"{name}.json"
        words = (*launch.split(), ROOT / "benchmarks" / file, *words, *(small if toy else full).split())
        return Part(name, (*words, "--device", device, "--out", result), limit, result)

    tests = "-m pytest -q -p no:cacheprovider -o filterwarnings=default -m gpu"
    yield Part("tests", (*tests.split(), ROOT / "tests" / "accelerator" / "test_gpu.py"), 120)
    yield script("rounding", 60, "rounding.py", small="--networks zfnet --batch 2")
    yield script("layout", 90, "layout.py", small="--networks zfnet --batches 2 --batch 2 --count 1 --repeats 1")

    sizes = "--jpegs 24 --packed 12" if toy else ""
    yield Part("photos", (ROOT / "benchmarks" / "gpu_photos.py", photos, *given, *sizes.split()), 90)
    yield script(
        *("step", 90, "step.py", "--images", jpegs),
        full="--batches 64,128 --steps 20",
        small="--batches 2 --steps 1 --long 1 --hidden 16 --repeats 1",
    )
    yield script(
        *("mining", 90, "mining.py", "--images", jpegs),
        full="--batches 64,256 --workers 8",
        small="--photos 9 --batches 8 --workers 1 --repeats 1",
    )
    small = "--batches 8 --photos 16 --repeats 1"
    yield script("packed-mining", 60, "packed_mining.py", packed / "train", small=small)
    small = "--photos 9 --top 2 --units 1 --checked 1 --repeats 1"
    yield script("projection", 90, "projection.py", "--images", jpegs, small=small)
    yield script(
        *("occlusion", 60, "occlusion_speed.py", "--images", jpegs),
        full="--batches 64,256",
        small="--size 164 --stride 60 --batches 4 --repeats 1",
    )
    yield script("loading", 45, "loading.py", "--images", jpegs, small="--photos 8 --batch 4 --repeats 1")
    yield script("growth", 60, "growth.py", "--images", jpegs, full="--sizes 1000,4000", small="--sizes 4")
    yield script("epoch", 90, "epoch.py", packed, small="--networks zfnet --batch 6")
    if cards > 1 or toy:
        launch = "-m torch.distributed.run --nproc-per-node 2"
        words = (*launch.split(), "-m", "deconvnet", "mine", "zfnet", packed / "train")
        yield Part("two-ranks-mining", (*words, "--device", device, "--out", folder / "mined.safetensors"), 60)
        small = "--networks zfnet --recipes fast --batch 6"
        yield script("two-ranks-epoch", 60, "epoch.py", packed, small=small, launch=launch)
    if images or toy:
        for seed in (0, 1):
            for network in ("alexnet2012", "zfnet"):
                weights = out / f"{network}-seed-{seed}.safetensors"
                words = (network, packed, "--seed", seed, "--weights", weights)
                yield script(f"{network}-seed-{seed}", 120, "retrain.py", *words, small="--epochs 1 --batch 6")


def run_part(part: Part, limit: float, environment: dict[str, str], log: IO[bytes]) -> dict[str, Any]:
    """Run it for at most `limit` seconds; returns its entry in the results. Its output is added to `log`."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, part.command)],
            cwd=ROOT,
            env=environment | {"PYTHONUNBUFFERED": "1"},  # or what it prints comes after its errors
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            outcome = "done" if process.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            outcome = "stopped at its limit"
        finally:
            _stop(process)
        output.seek(max(0, output.seek(0, os.SEEK_END) - LOGGED_BYTES))
        printed = output.read()
    log.write(f"\n=== {part.name}: {outcome}\n".encode() + printed)
    log.flush()
    entry: dict[str, Any] = {
        "part": part.name,
        "command": " ".join(map(str, part.command)),
        "outcome": outcome,
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "limit": limit,
        "last_lines": printed.decode(errors="replace").splitlines()[-SHOWN_LINES:],
    }
    if part.result and part.result.is_file():
        entry["result"] = json.loads(part.result.read_text(encoding="utf-8"))
    return entry


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started: politely first, as `torchrun` ends its ranks only then."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(RESERVE / 2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run_parts(
    parts: Iterable[Part], seconds: float, out: Path, about: dict[str, Any], environment: dict[str, str]
) -> list[dict[str, Any]]:
    """Run the parts, in `seconds` altogether, and write results.json and log.txt into `out`."""
    end, entries = time.monotonic() + seconds, []
    with (out / "log.txt").open("wb") as log:
        for part in parts:
            left = end - time.monotonic()
            if left < RESERVE:
                entries.append({"part": part.name, "outcome": "not run, as the time is over"})
            else:
                entries.append(run_part(part, min(part.limit, left), environment, log))
            entry = entries[-1]
            why = f": {entry['last_lines'][-1]}" if entry["outcome"] == "failed" and entry["last_lines"] else ""
            print(f"{part.name}: {entry['outcome']}, {entry.get('seconds', 0):.0f} s{why}", flush=True)
            results = json.dumps({**about, "parts": entries}, indent=1)
            (out / "results.json").write_text(results + "\n", encoding="utf-8")
    return entries


def missing_modules() -> dict[str, str]:
    """What is not importable, and what does not work without it."""
    return {name: purpose for name, purpose in MODULES.items() if importlib.util.find_spec(name) is None}


def find_cards() -> list[str]:
    """Names of the GPUs that PyTorch sees."""
    code = "import torch; [print(torch.cuda.get_device_name(n)) for n in range(torch.cuda.device_count())]"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in a few minutes.")
    parser.add_argument("--out", type=Path, default=Path("out-gpu"), help="folder for the results (default: out-gpu)")
    parser.add_argument("--images", type=Path, help="Imagenette: a folder with train/ and val/, packed or not")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together (default: 10)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="some parts only, and photos, which others need")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels to use without installing")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--toy", action="store_true", help="next to nothing of everything, to try the script itself")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part in progress is stopped too

    out, images = options.out.resolve(), options.images and options.images.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for wheel in sorted(options.wheels.glob("*.whl")):
            zipfile.ZipFile(wheel).extractall(folder / "wheels")
        paths = [str(ROOT / "src"), str(folder / "wheels"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "COLUMNS": "125"}
        sys.path.insert(0, str(folder / "wheels"))
        missing, cards = missing_modules(), find_cards()
        print(f"Python {platform.python_version()}; GPUs: {', '.join(cards) or 'none'}")
        for purpose in dict.fromkeys(missing.values()):
            names = [name for name in missing if missing[name] == purpose]
            print(f"Missing: {', '.join(names)}, needed for {purpose}.", flush=True)
        if options.device == "cuda" and not cards:
            sys.exit("PyTorch finds no GPU: on a CPU, --device cpu --toy tries the script itself.")
        about = {"python": platform.python_version(), "gpus": cards, "missing": missing, "toy": options.toy}
        parts = list(plan(options.device, options.toy, images, len(cards), folder, out))
        if options.toy:  # which is about whether it runs, on slow machines too
            parts = [replace(part, limit=10 * part.limit) for part in parts]
        if options.only:
            if unknown := set(options.only) - {part.name for part in parts}:
                sys.exit(f"There is no part {', '.join(unknown)}: the parts are {', '.join(part.name for part in parts)}.")
            parts = [part for part in parts if part.name in ("photos", *options.only)]
        entries = run_parts(parts, options.minutes * 60 - RESERVE, out, about, environment)
    print(f"Wrote {out / 'results.json'} and {out / 'log.txt'}.")
    sys.exit(any(entry["outcome"] != "done" for entry in entries))


if __name__ == "__main__":
    main()
