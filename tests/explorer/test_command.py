"""`deconvnet explore` as it is typed."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from deconvnet.errors import UsageError
from deconvnet.explorer.server import DEFAULT_PORT, EXTRA_PORTS, listen
from helpers.exploring import image_bytes


@pytest.fixture
def run(deconvnet_command):
    return partial(deconvnet_command, "explore")


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "Example" in out
    assert "deconvnet explore demo/zfnet" in out


def test_wrong_use(run, folder, tmp_path):
    for words, code, message in [
        ((), 2, "There is nothing to explore: pass the folder of an atlas, or --network NETWORK."),
        ((tmp_path, "--port", 0), 1, f"There is no atlas in {tmp_path}"),
        ((folder, "--preprocessing", "a.toml"), 2, "--preprocessing describes the weights of one network"),
        (("--network", "nothing", "--port", 0), 2, "There is no network 'nothing'"),
        ((folder, "--host", "no such host"), 2, "There is no host 'no such host' to listen at: pass --host 127.0.0.1."),
        ((folder, "--host", "203.0.113.7"), 2, "It is not possible to listen at 203.0.113.7, port 8000"),
        ((folder, "--device", "nothing"), 2, "There is no device 'nothing' here"),
    ]:
        found, out, err = run(*words)
        assert (found, out) == (code, ""), err
        assert err.startswith(f"deconvnet: {message}")
        assert err.count("\n") == 1
    assert run(folder, "--port", 70000)[0] == 2


def test_a_port_that_is_taken(run, folder):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(folder, "--port", port)
    assert code == 2
    assert err == f"deconvnet: Port {port} is taken: pass another --port, or none, and a free one is found.\n"


def test_the_next_port_is_tried_where_none_was_asked_for(monkeypatch):
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [taken.getsockname()[1] for taken in (first, second)]
        assert DEFAULT_PORT <= ports[0] < ports[1] <= DEFAULT_PORT + EXTRA_PORTS
        monkeypatch.setattr("deconvnet.explorer.server.DEFAULT_PORT", ports[0])
        monkeypatch.setattr("deconvnet.explorer.server.EXTRA_PORTS", 0)
        with pytest.raises(UsageError, match="are all taken"):
            listen("127.0.0.1", None)


@contextmanager
def started(*words):
    """The real process; gives it and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deconvnet", "explore", *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"Open (http://[^ ]+/) \(Ctrl-C ends it\)\.\n", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_ctrl_c_ends_it_quickly_and_quietly_even_while_something_streams():
    with started("--network", "zfnet:random") as (process, address), httpx.Client(base_url=address, timeout=60) as client:
        headers = {"Content-Type": "application/octet-stream"}
        token = client.post("/api/photos", content=image_bytes(), headers=headers).json()["photo"]
        with client.stream("POST", f"/api/photos/{token}/zfnet/occlusion", json={"stride": 3}) as answer:
            lines = answer.iter_lines()
            assert '"positions"' in next(lines)
            assert '"done"' in next(lines)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert time.monotonic() - start < 3  # the map would take minutes
        assert process.stderr.read() == "deconvnet: Stopped.\n"
        assert process.stdout.read() == ""


@pytest.mark.slow
def test_another_host_is_warned_of_and_terminate_ends_it(folder):
    with started(folder, "--host", "0.0.0.0") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(address).status_code == 200
        assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 421
        process.terminate()
        assert process.wait(10) == 143
        err = process.stderr.read().splitlines()
    assert err[0] == (
        "deconvnet: Anyone who reaches 0.0.0.0 can use this machine's processor and see the names of the photos in the "
        "atlases, as there is no password."
    )
    assert "can be browsed, but takes no photos. This atlas does not say where its network is" in err[1]
    assert err[2:] == ["deconvnet: Stopped."]
