"""Trains one network again and again, as one or two processes, each time stopped at a random moment, and compares the files.

A program of its own, `python killing_training.py FOLDER SEED`: its children are forks that have torch imported already,
which is safe only where no thread was ever started. Prints JSON: where each run was stopped.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # seconds, which an optimiser would take in each child
import torch.fx.experimental.symbolic_shapes
import torch.utils.tensorboard

sys.path.insert(0, str(Path(__file__).parents[1]))

from deconvnet.models import ARCHITECTURES
from deconvnet.training import train
from deconvnet.training.logs import Logs
from helpers.small_training import RECIPE, SMALL, results, write_photos

checkpoint = sys.modules["deconvnet.training.checkpoint"]


def child(folder: Path, out: Path, moment: int, stop: int, recipe: object) -> int:
    """Train; be killed just before the `moment`-th time that a file of the run is opened, renamed or removed, or be asked to
    stop in the step number `stop`.
    """
    events, log = 0, Logs.step

    def ask(self: Logs, step: int, *values: float) -> None:
        log(self, step, *values)
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    Logs.step = ask

    def see(event: str, arguments: tuple) -> None:
        nonlocal events
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(out) in str(arguments[0]):
            events += 1
            if events == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    train("zfnet", folder / "photos", out, recipe, workers=2)
    return events


def run(folder: Path, out: Path, count: int, moment: int = -1, stop: int = -1, dropout: float = 0.5) -> tuple[int, int]:
    """Train with `count` processes; the exit status of the first, which gets the signals, and its events."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    seen, pids = folder / "seen", []
    seen.unlink(missing_ok=True)
    for rank in range(count):
        pids.append(os.fork())
        if not pids[-1]:
            code = 1
            try:
                if count > 1:
                    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_PORT": str(port)}
                events = child(
                    folder,
                    out,
                    moment if rank == 0 else -1,
                    stop if rank == 0 else -1,
                    replace(RECIPE, epochs=2, dropout=dropout),
                )
                if rank == 0:
                    seen.write_text(str(events))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    first = os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
    for pid in pids[1:]:
        if first == -signal.SIGKILL:
            os.kill(pid, signal.SIGKILL)
        other = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert other == first, (other, first)
    return first, int(seen.read_text()) if seen.exists() else 0


def steps(out: Path) -> int:
    """Rows of the log of steps."""
    log = out / "steps.csv"
    return max(0, log.read_bytes().count(b"\n") - 1) if log.exists() else 0


def saved(out: Path) -> int:
    """The step that the newest checkpoint stands at."""
    file = out / "checkpoint.safetensors"
    if not file.exists():
        return -1
    at = checkpoint._parse(file.read_bytes())[1]
    return (at.epoch - 1) * 5 + at.step


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # which a kill needs not, and which is slow
    checkpoint.TIMES_AS_LONG = 0
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    ARCHITECTURES["zfnet"] = SMALL
    write_photos(folder / "photos")
    chance = random.Random(seed)
    found, losses = {"kills": [], "stops": []}, {}
    out = folder / "run"
    for count, kills in ((1, 5), (2, 2)):
        checkpoint.SAVE_EVERY = -1  # after every step
        status, events = run(folder, folder / f"undisturbed-{count}", count)
        assert status == 0
        wanted = results(folder / f"undisturbed-{count}")
        assert len(wanted) == 5, wanted.keys()

        def check(out: Path, wanted: dict[str, bytes]) -> None:
            got = results(out)
            assert got.keys() == wanted.keys(), got.keys()
            assert not (different := [name for name in wanted if got[name] != wanted[name]]), different
            shutil.rmtree(out)

        for _ in range(kills):
            status, _ = run(folder, out, count, chance.randint(1, events))
            found["kills"].append({"processes": count, "steps": steps(out), "saved": saved(out), "status": status})
            if status == 0:
                check(out, wanted)
        assert run(folder, out, count)[0] == 0
        assert run(folder, out, count)[0] == 0  # finished already
        check(out, wanted)

        checkpoint.SAVE_EVERY = 1e9  # where it is stopped only, and at the end of an epoch
        status, _ = run(folder, out, count, stop=7)
        found["stops"].append({"processes": count, "steps": steps(out), "saved": saved(out), "status": status})
        assert run(folder, out, count)[0] == 0
        check(out, wanted)

        assert run(folder, out, count, dropout=0.0)[0] == 0
        losses[count] = (out / "steps.csv").read_text(), (out / "log.csv").read_text()
        shutil.rmtree(out)
    print(json.dumps({"events": events, **found, "one": losses[1], "two": losses[2]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
