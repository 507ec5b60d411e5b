"""Pack repeatedly, each time killed at another moment, and compare the files: `python killed_packing.py FOLDER`.

Prints JSON: the number of kills, and how many of them left work to resume. A child is a fork that dies just before a file of
the folder is opened, renamed, written or removed; forking is safe as the parent never starts a thread.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from deconvnet.data import find_splits, pack
from helpers.forking import fork
from helpers.killing import files


def child(folder: Path, moment: int) -> None:
    events = 0

    def count() -> None:
        nonlocal events
        events += 1
        if events == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and "packed" in str(arguments[0]):
            count()

    write = os.pwrite

    def half_written(descriptor: int, content: bytes, offset: int) -> int:
        count()
        return write(descriptor, content[: len(content) // 2 + 1], offset)

    sys.addaudithook(audit)
    os.pwrite = half_written
    os.fsync = lambda descriptor: None  # slow, and a kill does not need it
    pack(find_splits(folder / "photos"), folder / "packed", workers=2)


def killed(folder: Path, moment: int) -> bool:
    (pid,) = fork(1, lambda rank: child(folder, moment))
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


def main(folder: Path) -> None:
    sys.modules["deconvnet.data.packing"].SAVE_INTERVAL = -1  # after every photo
    out, work = folder / "packed", folder / ".packed.partial"
    assert not killed(folder, -1)
    expected = files(out)
    shutil.rmtree(out)
    kills = kept = 0
    for moment in range(1, 10_000, 59):
        if not killed(folder, moment):
            break
        kills += 1
        assert out.exists() or not list(folder.glob("packed/**/packed.json"))
        kept += bool(list(work.glob("done*")))
        if not out.exists() and moment % 2:
            assert killed(folder, 30) or out.exists()  # killed again while it resumes
        if not out.exists():
            assert not killed(folder, -1)
            assert not work.exists()
        assert files(out) == expected
        shutil.rmtree(out)
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps({"kills": kills, "kept": kept}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
