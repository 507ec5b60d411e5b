"""A killed process leaves nothing for ever."""

import os
import signal
import subprocess
import sys

import pytest

from deconvnet.storage import atomic_write

KILLED_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from deconvnet.storage import atomic_write
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == "os.rename" else None)
atomic_write(Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_a_kill_leaves_beside_a_file_goes_with_the_next_save(tmp_path):
    file = tmp_path / "a.b.safetensors"
    file.write_bytes(b"old")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_RENAME, file], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    atomic_write(file, b"newer")
    assert file.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [file]
