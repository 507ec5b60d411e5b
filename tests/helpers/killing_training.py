"""Train one network repeatedly, with one or two processes, interrupt each run at a random moment, resume, compare the files.

A separate program, `python killing_training.py FOLDER SEED`: its children are forks that have torch imported already, which
is safe only where no thread was ever started. Prints JSON: where each run was interrupted.
"""

import json
import os
import random
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # takes seconds, once instead of in each child
import torch.fx.experimental.symbolic_shapes
import torch.utils.tensorboard

sys.path.insert(0, str(Path(__file__).parents[1]))

from deconvnet.models import ARCHITECTURES
from deconvnet.training import train
from helpers.forking import fork
from helpers.small_training import RECIPE, SMALL, results, write_photos

checkpoint, trainer = (sys.modules[f"deconvnet.training.{name}"] for name in ("checkpoint", "trainer"))


def train_in_child(folder: Path, out: Path, kill_event: int, stop_step: int, recipe: object) -> int:
    """Train; returns how often a file of the run was opened, renamed or removed.

    Is killed just before the `kill_event`-th of these events, or gets SIGTERM in step number `stop_step`.
    """
    events, dropout_seed = 0, trainer.dropout_seed

    def stop_and_seed(seed: int, step: int, rank: int) -> int:
        if step == stop_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return dropout_seed(seed, step, rank)

    trainer.dropout_seed = stop_and_seed  # called once in each step

    def count_event(event: str, arguments: tuple) -> None:
        nonlocal events
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(out) in str(arguments[0]):
            events += 1
            if events == kill_event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_event)
    train("zfnet", folder / "photos", out, recipe, workers=2, device="cpu")
    return events


def run(
    folder: Path, out: Path, count: int, kill_event: int = -1, stop_step: int = -1, dropout: float = 0.5
) -> tuple[int, int]:
    """Train with `count` processes; returns the exit status of the first, which gets the signals, and its events."""
    event_count = folder / "event-count"
    event_count.unlink(missing_ok=True)

    def work(rank: int) -> None:
        kill, stop = (kill_event, stop_step) if rank == 0 else (-1, -1)
        events = train_in_child(folder, out, kill, stop, replace(RECIPE, epochs=2, dropout=dropout))
        if rank == 0:
            event_count.write_text(str(events))

    pids = fork(count, work)
    first = os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
    for pid in pids[1:]:
        if first == -signal.SIGKILL:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == first, (status, first)
    return first, int(event_count.read_text()) if event_count.exists() else 0


def logged_steps(out: Path) -> int:
    """Rows of the step log."""
    log = out / "steps.csv"
    return max(0, log.read_bytes().count(b"\n") - 1) if log.exists() else 0


def saved_step(out: Path) -> int:
    """The step at which the newest checkpoint was written, -1 without one."""
    file = out / "checkpoint.safetensors"
    if not file.exists():
        return -1
    progress = checkpoint._parse(file.read_bytes())[1]
    return (progress.epoch - 1) * 5 + progress.step


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # slow, and not needed to survive a kill of the process
    checkpoint.SAVE_TIME_FACTOR = 0
    ARCHITECTURES["zfnet"] = SMALL
    write_photos(folder / "photos")
    generator = random.Random(seed)
    interruptions, logs = {"kills": [], "stops": []}, {}
    out = folder / "run"
    for count, kills in ((1, 5), (2, 2)):
        checkpoint.SAVE_INTERVAL = -1  # after every step
        status, events = run(folder, folder / f"undisturbed-{count}", count)
        assert status == 0
        expected = results(folder / f"undisturbed-{count}")
        assert len(expected) == 5, expected.keys()

        def interruption(count: int, status: int) -> dict[str, int]:
            return {"processes": count, "steps": logged_steps(out), "saved": saved_step(out), "status": status}

        def check(expected: dict[str, bytes]) -> None:
            files = results(out)
            assert files.keys() == expected.keys(), files.keys()
            assert not (different := [name for name in expected if files[name] != expected[name]]), different
            shutil.rmtree(out)

        for _ in range(kills):
            status, _ = run(folder, out, count, generator.randint(1, events))
            interruptions["kills"].append(interruption(count, status))
            if status == 0:
                check(expected)
        assert run(folder, out, count)[0] == 0
        assert run(folder, out, count)[0] == 0  # finished already
        check(expected)

        checkpoint.SAVE_INTERVAL = 1e9  # save only when interrupted and at the end of an epoch
        status, _ = run(folder, out, count, stop_step=7)
        interruptions["stops"].append(interruption(count, status))
        assert run(folder, out, count)[0] == 0
        check(expected)

        assert run(folder, out, count, dropout=0.0)[0] == 0
        logs[count] = (out / "steps.csv").read_text(), (out / "log.csv").read_text()
        shutil.rmtree(out)
    print(json.dumps({"events": events, **interruptions, "one_process": logs[1], "two_processes": logs[2]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
