"""Builds one atlas repeatedly, in one to three processes, each time killed at a random moment, and compares the files.

A separate program, `python killing.py FOLDER SEED`: its children are forks that have torch imported already, which is safe
only where no thread was ever started. Prints JSON: the state of the work at each kill, and how many atlases were finished.
"""

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import torch
import torch.fx.experimental.symbolic_shapes
from PIL import Image
from torch import nn

from deconvnet.atlas import draw_units
from deconvnet.atlas.build import build_atlas
from deconvnet.data import torchvision_preprocessing
from deconvnet.distributed import Processes
from deconvnet.models import Network

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.forking import fork

PHOTOS, KILLS = 100, 10


def write_photos(folder: Path) -> None:
    """Small photos in two classes, one of them broken."""
    generator = np.random.default_rng(0)
    for number in range(PHOTOS):
        file = folder / "ab"[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((40, 35)).save(file)
    (folder / "a" / "050.png").write_bytes(b"broken")


def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU()).eval()
    return Network(module, torchvision_preprocessing(32, 32), layer_names=["conv1", "conv2"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def child(folder: Path, out: Path, moment: int) -> int:
    """Build the atlas; die just before the `moment`-th time that a file of `folder` is opened, renamed or removed.

    In a folder that is removed as a whole, files have names relative to a descriptor.
    """
    events = 0

    def audit(event: str, arguments: tuple) -> None:
        nonlocal events
        removed = event in ("os.remove", "os.rmdir")
        if (removed or event in ("open", "os.rename", "os.mkdir", "shutil.rmtree")) and (
            str(folder) in str(arguments[0]) or (removed and arguments[1] != -1)
        ):
            events += 1
            if events == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    build_atlas(network(), folder / "photos", out, processes=Processes.from_environment(), batch_size=8, workers=2)
    return events


def run(folder: Path, out: Path, count: int, victim: int = 0, moment: int = -1) -> int:
    """Build the atlas with `count` processes; returns the number of events in process `victim`, 0 if it was killed."""
    event_count = folder / "seen"

    def work(rank: int) -> None:
        events = child(folder, out, moment if rank == victim else -1)
        if rank == victim:
            event_count.write_text(str(events))

    pids = fork(count, work)
    _, status = os.waitpid(pids.pop(victim), 0)
    killed = os.WIFSIGNALED(status)
    for pid in pids:
        if killed:
            os.kill(pid, signal.SIGKILL)
        peer_status = os.waitpid(pid, 0)[1]
        assert killed or peer_status == 0, peer_status
    assert killed or status == 0, status
    return 0 if killed else int(event_count.read_text())


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    sys.modules["deconvnet.mining.mine_batches"].SAVE_EVERY = -1  # after every batch
    draw_units._HITS_IN_GROUP, draw_units._MAX_QUEUED = 27, 1  # units of three, recorded while the next are projected
    write_photos(folder / "photos")
    generator = random.Random(seed)
    events = run(folder, folder / "undisturbed", 1)
    expected = files(folder / "undisturbed")
    assert len(expected) > 30, len(expected)
    out, partial = folder / "atlas", folder / ".atlas.partial"

    kills, finished = [], 0

    def check(killed: bool = False) -> None:
        nonlocal finished
        content = files(out)
        assert content.keys() == expected.keys(), content.keys() ^ expected.keys()
        assert not (different := [name for name in expected if content[name] != expected[name]]), different
        assert killed or not partial.exists()
        shutil.rmtree(out)
        finished += 1

    for count in (1, 2, 3):
        run(folder, out, count)
        check()
    for moment in (events, events - 3):  # while the work folder is removed
        assert not run(folder, out, 1, 0, moment)
        check(killed=True)
    while len(kills) < KILLS:
        count = generator.randint(1, 3)
        victim = generator.randrange(count)
        if run(folder, out, count, victim, generator.randint(1, events if victim == 0 else PHOTOS // count)):
            check()
        else:
            if out.exists():
                check(killed=True)
            states = len(list(partial.glob("*mined*.safetensors")))
            kills.append({"count": count, "victim": victim, "states": states, "drawn": (partial / "drawn.json").exists()})
    run(folder, out, generator.randint(1, 3))
    check()
    print(json.dumps({"events": events, "finished": finished, "kills": kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
